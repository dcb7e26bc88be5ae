/** Small Linux programs for x86-64, for guests that may have no compiler and no interpreter. */
import { Buffer } from 'node:buffer';

const BASE = 0x40_0000;
const HEADERS = 64 + 56;

/**
 * An ELF file (elf(5)) of machine code that can be anywhere in memory, is entered at its first byte, and may be followed by
 * what it reads. Its one segment cannot be written to.
 */
export function elfProgram(code: Uint8Array): Uint8Array {
  return Buffer.concat([headers(code.length), code]);
}

/** The ELF header and one loadable segment, with everything that may stay 0 left so. */
function headers(codeBytes: number): Buffer {
  const bytes = Buffer.alloc(HEADERS);
  bytes.write('\u007fELF\u0002\u0001\u0001', 'latin1');
  bytes.writeUInt16LE(2, 16); // ET_EXEC
  bytes.writeUInt16LE(62, 18); // EM_X86_64
  bytes.writeUInt32LE(1, 20);
  bytes.writeBigUInt64LE(BigInt(BASE + HEADERS), 24); // entry
  bytes.writeBigUInt64LE(64n, 32); // program headers
  bytes.writeUInt16LE(64, 52);
  bytes.writeUInt16LE(56, 54);
  bytes.writeUInt16LE(1, 56);
  bytes.writeUInt32LE(1, 64); // PT_LOAD
  bytes.writeUInt32LE(5, 68); // readable and executable
  bytes.writeBigUInt64LE(BigInt(BASE), 80);
  bytes.writeBigUInt64LE(BigInt(BASE), 88);
  bytes.writeBigUInt64LE(BigInt(HEADERS + codeBytes), 96);
  bytes.writeBigUInt64LE(BigInt(HEADERS + codeBytes), 104);
  bytes.writeBigUInt64LE(0x1000n, 112);
  return bytes;
}
