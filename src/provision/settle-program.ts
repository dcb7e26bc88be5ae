/**
 * A Linux program for x86-64 that tells its kernel what a guest cannot know when it goes on from saved memory: the time
 * (clock_settime(2)), and new random numbers, added to the kernel's pool and in use at once (random(4), `RNDADDENTROPY` and
 * `RNDRESEEDCRNG`).
 *
 * It removes the file that it was started from, and then waits for messages on its standard input, each of which it
 * answers with one byte, until there are no more.
 */
import { Buffer } from 'node:buffer';
import { randomBytes } from 'node:crypto';
import { elfProgram } from '../util/elf.js';

const TIMESPEC_BYTES = 16;
/** `struct rand_pool_info`: bits of entropy, bytes, and the bytes themselves. */
const POOL_HEAD_BYTES = 8;
const RANDOM_BYTES = 64;
const MESSAGE_BYTES = TIMESPEC_BYTES + POOL_HEAD_BYTES + RANDOM_BYTES;

/** What the program answers: which of the two its kernel has refused. */
const REFUSALS: Readonly<Record<string, string>> = {
  '1': 'its clock cannot be set',
  '2': 'its kernel takes no new random numbers',
  '3': 'its kernel takes neither the time nor new random numbers',
};

export function settleProgram(): Uint8Array {
  return elfProgram(machineCode());
}

/** What the guest is told: the milliseconds since the epoch, and random bytes of this host. */
export function settleMessage(now: number): Buffer {
  const message = Buffer.alloc(MESSAGE_BYTES);
  message.writeBigInt64LE(BigInt(Math.floor(now / 1000)), 0);
  message.writeBigInt64LE(BigInt(Math.floor(now % 1000) * 1_000_000), 8);
  message.writeInt32LE(RANDOM_BYTES * 8, TIMESPEC_BYTES);
  message.writeInt32LE(RANDOM_BYTES, TIMESPEC_BYTES + 4);
  randomBytes(RANDOM_BYTES).copy(message, TIMESPEC_BYTES + POOL_HEAD_BYTES);
  return message;
}

/** What the program's answer says is not possible; null where all of it was done. */
export function refusalIn(answer: string): string | null {
  return answer === '0' ? null : (REFUSALS[answer] ?? 'it does not answer as it should');
}

function machineCode(): Buffer {
  const instructions = [
    '488b7c2408', // mov rdi, [rsp + 8]     argv[0]
    '6a5758', // push 87; pop rax   unlink
    '0f05', // syscall
    '6a7058', // push 112; pop rax  setsid
    '0f05', // syscall
    '488d3d88000000', // lea rdi, [rip + path]
    '6a025e', // push 2; pop rsi    O_RDWR
    '6a0258', // push 2; pop rax    open
    '0f05', // syscall
    '4189c4', // mov r12d, eax
    '4883ec60', // sub rsp, 96
    '31db', // message: xor ebx, ebx
    '31ff', // part: xor edi, edi
    '488d341c', // lea rsi, [rsp + rbx]
    '6a585a', // push 88; pop rdx
    '29da', // sub edx, ebx
    '31c0', // xor eax, eax      read(0, …)
    '0f05', // syscall
    '85c0', // test eax, eax
    '7e5d', // jle end
    '01c3', // add ebx, eax
    '83fb58', // cmp ebx, 88
    '7ce6', // jl part
    '6a305b', // push '0'; pop rbx
    '31ff', // xor edi, edi      CLOCK_REALTIME
    '4889e6', // mov rsi, rsp
    'b8e3000000', // mov eax, 227      clock_settime
    '0f05', // syscall
    '85c0', // test eax, eax
    '7403', // jz stir
    '80cb01', // or bl, 1
    '4489e7', // stir: mov edi, r12d
    'be03520840', // mov esi, RNDADDENTROPY
    '488d542410', // lea rdx, [rsp + 16]
    '6a1058', // push 16; pop rax   ioctl
    '0f05', // syscall
    '85c0', // test eax, eax
    '7511', // jnz refused
    '4489e7', // mov edi, r12d
    'be07520000', // mov esi, RNDRESEEDCRNG
    '6a1058', // push 16; pop rax   ioctl
    '0f05', // syscall
    '85c0', // test eax, eax
    '7403', // jz answer
    '80cb02', // refused: or bl, 2
    '885c2458', // answer: mov [rsp + 88], bl
    '6a015f', // push 1; pop rdi
    '488d742458', // lea rsi, [rsp + 88]
    '6a015a', // push 1; pop rdx
    '6a0158', // push 1; pop rax    write(1, …)
    '0f05', // syscall
    'eb8e', // jmp message
    '31ff', // end: xor edi, edi
    '6a3c58', // push 60; pop rax   exit
    '0f05', // syscall
  ];
  return Buffer.concat([Buffer.from(instructions.join(''), 'hex'), Buffer.from('/dev/urandom\0', 'latin1')]);
}
