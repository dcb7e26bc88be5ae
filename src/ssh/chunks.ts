/** A file's content in pieces, several of them under way at a time. */
import { Buffer } from 'node:buffer';
import type { FileHandle } from 'node:fs/promises';
import { forEachAtOnce } from '../util/parallel.js';

/** What OpenSSH's server takes at most, and few answers for many bytes. A server that takes less has smaller chunks. */
const LONGEST_CHUNK_BYTES = 255 * 1024;
/** Measured over loopback: half of it or twice as much is no faster. */
const BYTES_UNDER_WAY = 1024 * 1024;

/** What is copied: so many bytes, of which one request takes `limit` at most. */
export interface Content {
  readonly bytes: number;
  readonly limit: number;
  /**
   * Bytes that may be on their way, where the other side says so. Having more under way would be of no use, and to dropbear
   * it is slow: where one chunk ends and the next begins its small window is parted into two, and stays so, and then every
   * packet is half as long as it could be.
   */
  readonly window?: number;
}

/**
 * Cuts `bytes` bytes into chunks and keeps several under way, so that the time for an answer is not waited for once a
 * chunk. Once one has failed no other is begun; the caller may close the handle when this settles.
 */
export async function inChunks(
  { bytes, limit, window = BYTES_UNDER_WAY }: Content,
  copy: (position: number, chunk: Buffer, stopped: () => boolean) => Promise<void>,
): Promise<void> {
  let failed = false;
  const longest = chunkBytes(limit);
  const chunks = function* (): Generator<number> {
    for (let position = 0; position < bytes; position += longest) yield position;
  };
  const options = {
    limit: Math.max(1, Math.ceil(Math.min(BYTES_UNDER_WAY, window, bytes) / longest)),
    onFailure: () => (failed = true),
  };
  const free: Buffer[] = [];
  await forEachAtOnce(chunks(), options, async (position) => {
    const room = free.pop() ?? Buffer.allocUnsafe(Math.min(longest, bytes));
    await copy(position, room.subarray(0, bytes - position), () => failed);
    free.push(room);
  });
}

/**
 * Never more than one request takes: ssh2 cuts what is longer into pieces and sends each when the one before was answered,
 * slowly, and even after the handle was closed, when the server may have given the handle's number to another file already.
 */
function chunkBytes(limit: number): number {
  return Math.min(LONGEST_CHUNK_BYTES, limit);
}

/** Copies what has no known length, one chunk after the other, until there is nothing more; gives how much it was. */
export async function readToEnd(
  read: (into: Buffer, position: number) => Promise<number>,
  to: { readonly file: FileHandle; readonly limit: number },
): Promise<number> {
  const chunk = Buffer.allocUnsafe(chunkBytes(to.limit));
  for (let position = 0; ; ) {
    const count = await read(chunk, position);
    if (count === 0) return position;
    await writeWhole(to.file, chunk.subarray(0, count), position);
    position += count;
  }
}

/** Writes all of it: a disk that is nearly full takes a part first, and refuses the rest. */
export async function writeWhole(file: FileHandle, bytes: Buffer, position: number): Promise<void> {
  for (let written = 0; written < bytes.length; ) {
    written += (await file.write(bytes, written, bytes.length - written, position + written)).bytesWritten;
  }
}
