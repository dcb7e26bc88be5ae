/**
 * Decompression while streaming. gzip is Node's own. zstd, xz and bzip2 are the system's tools where they are installed,
 * because they are several times faster than what else there is, and a library where they are not. zstd is no exception,
 * although newer versions of Node have it: theirs drops every frame but the first of a file that has several, and says
 * nothing (nodejs/node#64741).
 */
import type { Readable, Writable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createGunzip } from 'node:zlib';
import { VmctlError } from '../errors.js';
import { pipeThrough, runCommand } from '../util/exec.js';
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
  /** Told what slows it down. */
  readonly onNote: (text: string) => void;
}

/**
 * Streams the decompressed input into the output. Throws the streams' own errors; `COMMAND_FAILED` or zlib's error when
 * the input is damaged; `ABORTED`.
 */
export async function decompress(by: Compression, options: DecompressOptions): Promise<void> {
  const { input, output, signal } = options;
  if (by === 'gzip') {
    await pipeline(input, createGunzip(), output, { signal });
    return;
  }
  const { program, packages } = TOOLS[by];
  if (await isInstalled(program, signal)) {
    await pipeThrough(program, ['-dc'], { input, output, signal });
    return;
  }
  options.onNote(`${program} is not installed, and what takes its place is slower; the package is ${packages}`);
  await pipeline(withLibrary(by, input), output, { signal });
}

async function isInstalled(program: string, signal: AbortSignal): Promise<boolean> {
  try {
    await runCommand(program, ['--help'], { signal });
    return true;
  } catch (error) {
    if (!(error instanceof VmctlError) || error.code === 'ABORTED') throw error;
    return error.code !== 'HOST_UNSUPPORTED';
  }
}

/** A failure of the input stays what it is; any other is the library's, about what it was given. */
async function* withLibrary(by: keyof typeof TOOLS, input: Readable): AsyncGenerator<Uint8Array, void> {
  const { LIBRARIES } = await import('./decompress-library.js');
  const failures: Error[] = [];
  const noted = async function* (): AsyncGenerator<Uint8Array, void> {
    try {
      yield* input;
    } catch (error) {
      failures.push(error instanceof Error ? error : new Error(String(error)));
      throw error;
    }
  };
  try {
    yield* LIBRARIES[by](noted());
  } catch (cause) {
    throw failures[0] ?? new VmctlError('COMMAND_FAILED', `it cannot be unpacked as ${by}`, { cause });
  }
}
