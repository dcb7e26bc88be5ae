/** The end of a file, however long the file is: no more than one block of it is in memory. */
import { Buffer } from 'node:buffer';
import { type FileHandle, open } from 'node:fs/promises';
import { isMissing, stateDirectoryError } from './fs.js';

const BLOCK_BYTES = 64 * 1024;
const LINE_FEED = 0x0a;

/**
 * The bytes of a file in pieces, or those of its last lines; null when there is no file.
 * Throws `STATE_DIRECTORY` when it cannot be read.
 */
export async function openTail(
  path: string,
  lastLines: number | undefined,
): Promise<AsyncGenerator<Uint8Array, void> | null> {
  let file: FileHandle;
  try {
    file = await open(path, 'r');
  } catch (error) {
    if (isMissing(error)) return null;
    throw stateDirectoryError('read', path, error);
  }
  return readTail(file, path, lastLines);
}

async function* readTail(
  file: FileHandle,
  path: string,
  lastLines: number | undefined,
): AsyncGenerator<Uint8Array, void> {
  await using _open = file;
  try {
    yield* readFrom(file, lastLines === undefined ? 0 : await offsetOfLastLines(file, lastLines));
  } catch (error) {
    throw stateDirectoryError('read', path, error);
  }
}

/** Where the last lines of a file begin, in bytes; 0 where it has no more than these. A last line may be unfinished. */
export async function offsetOfLastLines(file: FileHandle, lines: number): Promise<number> {
  const { size } = await file.stat();
  const block = Buffer.alloc(BLOCK_BYTES);
  let left = lines;
  // The line feed at the very end ends the last line, and begins none.
  let end = size - 1;
  while (end > 0) {
    const start = Math.max(0, end - BLOCK_BYTES);
    const { bytesRead } = await file.read(block, 0, end - start, start);
    let at = bytesRead;
    while ((at = at === 0 ? -1 : block.lastIndexOf(LINE_FEED, at - 1)) !== -1) {
      left -= 1;
      if (left === 0) return start + at + 1;
    }
    end = start;
  }
  return 0;
}

/** The bytes of a file from an offset to its end, or to where it was known to end at least, in pieces of at most 64 KiB. */
export async function* readFrom(
  file: FileHandle,
  offset: number,
  end = Number.POSITIVE_INFINITY,
): AsyncGenerator<Uint8Array, void> {
  for (let at = offset; at < end; ) {
    const { bytesRead, buffer } = await file.read(Buffer.allocUnsafe(BLOCK_BYTES), 0, BLOCK_BYTES, at);
    if (bytesRead === 0) return;
    at += bytesRead;
    yield buffer.subarray(0, bytesRead);
  }
}

/** The last bytes of a file. Throws Node's own errors. */
export async function readLast(path: string, bytes: number): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  await using file = await open(path, 'r');
  const { size } = await file.stat();
  for await (const chunk of readFrom(file, Math.max(0, size - bytes))) chunks.push(chunk);
  return Buffer.concat(chunks);
}
