/**
 * A Linux program for x86-64: it removes the file that it was started from, reads new random bytes from its
 * standard input, adds them to the kernel's pool, and has the kernel make new random numbers from it at once (random(4),
 * `RNDADDENTROPY` and `RNDRESEEDCRNG`). It exits with 0 where both were done.
 */
import { Buffer } from 'node:buffer';
import { elfProgram } from '../util/elf.js';

export function reseedProgram(): Uint8Array {
  return elfProgram(machineCode());
}

/** `struct rand_pool_info` is made on the stack: bits of entropy, bytes, and the bytes themselves. */
function machineCode(): Buffer {
  const instructions = [
    '488b7c2408', // mov rdi, [rsp + 8]     argv[0]
    '6a5758', // push 87; pop rax   unlink
    '0f05', // syscall
    '4881ec08010000', // sub rsp, 264
    '31ff', // xor edi, edi
    '488d742408', // lea rsi, [rsp + 8]
    'ba00010000', // mov edx, 256
    '31c0', // xor eax, eax      read(0, …)
    '0f05', // syscall
    '85c0', // test eax, eax
    '7e38', // jle failed
    '89442404', // mov [rsp + 4], eax
    'c1e003', // shl eax, 3
    '890424', // mov [rsp], eax
    '488d3d2f000000', // lea rdi, [rip + path]
    'be02000000', // mov esi, O_RDWR
    '6a0258', // push 2; pop rax    open
    '0f05', // syscall
    '89c7', // mov edi, eax
    'be03520840', // mov esi, RNDADDENTROPY
    '4889e2', // mov rdx, rsp
    '6a1058', // push 16; pop rax   ioctl
    '0f05', // syscall
    'be07520000', // mov esi, RNDRESEEDCRNG
    '6a1058', // push 16; pop rax   ioctl
    '0f05', // syscall
    '89c7', // mov edi, eax
    'eb03', // jmp exit
    '6a015f', // failed: push 1; pop rdi
    '6a3c58', // exit: push 60; pop rax
    '0f05', // syscall
  ];
  return Buffer.concat([Buffer.from(instructions.join(''), 'hex'), Buffer.from('/dev/urandom\0', 'latin1')]);
}
