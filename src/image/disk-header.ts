/** What the first bytes of a disk file say, without QEMU: cheap enough to look at every disk of every VM. */
import { Buffer } from 'node:buffer';
import { type FileHandle, open } from 'node:fs/promises';
import { signatureOf } from './signature.js';

export type DiskHeader =
  | { readonly format: 'qcow2'; readonly virtualBytes: number; readonly backingFile: string | null }
  | { readonly format: 'raw'; readonly virtualBytes: number }
  /** Something else, or a qcow2 header that is not whole. */
  | { readonly format: 'unknown' };

const HEADER_BYTES = 72;
/** docs/interop/qcow2.txt: the longest name of a backing file. */
const LONGEST_NAME = 1023;

/** Reads the header. Throws Node's error for a file that cannot be read. */
export async function readDiskHeader(path: string): Promise<DiskHeader> {
  const file = await open(path, 'r');
  try {
    const head = await read(file, 0, 1024);
    const { kind } = signatureOf(head);
    if (kind === 'raw') return { format: 'raw', virtualBytes: (await file.stat()).size };
    if (kind !== 'qcow2' || head.length < HEADER_BYTES) return { format: 'unknown' };
    // Offsets of the fields: docs/interop/qcow2.txt.
    const [offset, length] = [Number(head.readBigUInt64BE(8)), head.readUInt32BE(16)];
    if (offset === 0) return { format: 'qcow2', virtualBytes: Number(head.readBigUInt64BE(24)), backingFile: null };
    if (length === 0 || length > LONGEST_NAME || !Number.isSafeInteger(offset)) return { format: 'unknown' };
    const name = await read(file, offset, length);
    if (name.length < length) return { format: 'unknown' };
    return { format: 'qcow2', virtualBytes: Number(head.readBigUInt64BE(24)), backingFile: name.toString('utf8') };
  } finally {
    await file.close();
  }
}

async function read(file: FileHandle, position: number, length: number): Promise<Buffer> {
  const { buffer, bytesRead } = await file.read(Buffer.alloc(length), 0, length, position);
  return buffer.subarray(0, bytesRead);
}
