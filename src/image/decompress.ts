/**
 * Decompression while streaming. gzip is Node's own; xz and bzip2 are the system's tools. zstd is too, although newer
 * versions of Node have it: theirs drops every frame but the first of a file that has several, and says nothing
 * (nodejs/node#64741).
 */
import type { Readable, Writable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createGunzip } from 'node:zlib';
import { VmctlError } from '../errors.js';
import { pipeThrough } from '../util/exec.js';
import type { Compression } from './signature.js';

/** The package is called the same everywhere but for xz on Debian and Ubuntu. */
const TOOLS = {
  zstd: { program: 'zstd', packages: 'zstd' },
  xz: { program: 'xz', packages: 'xz-utils on Debian and Ubuntu, xz elsewhere' },
  bzip2: { program: 'bzip2', packages: 'bzip2' },
} as const;

export interface DecompressOptions {
  readonly input: Readable;
  readonly output: Writable;
  readonly signal: AbortSignal;
}

/**
 * Streams the decompressed input into the output. Throws the streams' own errors; `HOST_UNSUPPORTED` with the package
 * when the tool is missing; `COMMAND_FAILED` or zlib's error when the input is damaged.
 */
export async function decompress(by: Compression, { input, output, signal }: DecompressOptions): Promise<void> {
  if (by === 'gzip') {
    await pipeline(input, createGunzip(), output, { signal });
    return;
  }
  const { program, packages } = TOOLS[by];
  try {
    await pipeThrough(program, ['-dc'], { input, output, signal });
  } catch (error) {
    if (!(error instanceof VmctlError) || error.code !== 'HOST_UNSUPPORTED') throw error;
    throw new VmctlError('HOST_UNSUPPORTED', `the image is compressed with ${by}, and ${program} is not installed`, {
      hint: `Install it: the package is ${packages}.`,
      cause: error,
      fields: { program },
    });
  }
}
