/** A file's content in pieces, several of them under way at a time. */
import { Buffer } from 'node:buffer';
import type { FileHandle } from 'node:fs/promises';
import { forEachAtOnce } from '../util/parallel.js';

/**
 * Less than the smallest limit that ssh2 assumes of a server (34,000 bytes a packet, 2 KiB of them overhead). It cuts a
 * longer read or write into pieces and sends each when the one before was answered: slowly, and even after the handle was
 * closed, when the server may have given the handle's number to another file already.
 */
const CHUNK_BYTES = 31 * 1024;
/** About 1 MiB under way. Measured over loopback: half of it or twice as much is slower to dropbear, and no faster to OpenSSH. */
const CONCURRENT_CHUNKS = 32;

/**
 * Cuts `bytes` bytes into chunks and keeps several under way, so that the time for an answer is not waited for once a
 * chunk. Once one has failed no other is begun; the caller may close the handle when this settles.
 */
export async function inChunks(
  bytes: number,
  copy: (position: number, length: number, stopped: () => boolean) => Promise<void>,
): Promise<void> {
  let failed = false;
  const chunks = function* (): Generator<number> {
    for (let position = 0; position < bytes; position += CHUNK_BYTES) yield position;
  };
  const options = {
    limit: Math.min(CONCURRENT_CHUNKS, Math.ceil(bytes / CHUNK_BYTES)),
    onFailure: () => (failed = true),
  };
  await forEachAtOnce(chunks(), options, (position) =>
    copy(position, Math.min(CHUNK_BYTES, bytes - position), () => failed),
  );
}

/** Copies what has no known length, one chunk after the other, until there is nothing more; gives how much it was. */
export async function readToEnd(
  read: (into: Buffer, position: number) => Promise<number>,
  file: FileHandle,
): Promise<number> {
  const chunk = Buffer.allocUnsafe(CHUNK_BYTES);
  for (let position = 0; ; ) {
    const count = await read(chunk, position);
    if (count === 0) return position;
    await writeWhole(file, chunk.subarray(0, count), position);
    position += count;
  }
}

/** Writes all of it: a disk that is nearly full takes a part first, and refuses the rest. */
export async function writeWhole(file: FileHandle, bytes: Buffer, position: number): Promise<void> {
  for (let written = 0; written < bytes.length; ) {
    written += (await file.write(bytes, written, bytes.length - written, position + written)).bytesWritten;
  }
}
