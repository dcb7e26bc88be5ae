/**
 * A program for a guest that floods its serial console: root's right to a serial port lets it write there past the kernel's
 * driver. Through the driver an emulated guest writes 130 kB/s, and so five times that and more.
 */
import { Buffer } from 'node:buffer';
import { elfProgram } from '../../src/util/elf.js';

const LINE = `${'abcdefghijklmnopqrstuvwxyz'.repeat(3)}\n`;

/** A shell's command that writes at least so many bytes to the first serial port. */
export function floodConsole(bytes: number): string {
  const program = Buffer.from(elfProgram(machineCode(Math.ceil(bytes / LINE.length)))).toString('base64');
  return `echo ${program} | base64 -d >flood && chmod +x flood && sudo ./flood`;
}

function machineCode(lines: number): Buffer {
  const instructions = [
    'b8ad000000', // mov eax, 173      ioperm
    'bff8030000', // mov edi, 0x3f8    the first serial port
    'be08000000', // mov esi, 8
    'ba01000000', // mov edx, 1
    '0f05', // syscall
    '85c0', // test eax, eax
    '751d', // jnz exit
    `bb${word(lines)}`, // mov ebx, lines
    '66baf803', // mov dx, 0x3f8
    '488d3514000000', // again: lea rsi, [rip + line]
    `b9${word(LINE.length)}`, // mov ecx, length
    'f36e', // rep outsb
    'ffcb', // dec ebx
    '75ee', // jnz again
    '31c0', // xor eax, eax
    '89c7', // exit: mov edi, eax
    '6a3c58', // push 60; pop rax
    '0f05', // syscall
  ];
  return Buffer.concat([Buffer.from(instructions.join(''), 'hex'), Buffer.from(LINE)]);
}

/** 32 bits, little-endian, in hexadecimal. */
function word(value: number): string {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes.toString('hex');
}
