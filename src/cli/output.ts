/** Data for whoever reads stdout, no faster than he reads. */
import { once } from 'node:events';
import { Writable } from 'node:stream';
import { getSystemErrorMap } from 'node:util';
import { VmctlError } from '../errors.js';
import { errorCode } from '../util/fs.js';
import type { OutputStream } from './cli.js';

/** Null when nobody reads any more, which is no failure: a pipe whose reader has gone, or a terminal that is closed. */
export function outputError(error: unknown, isTerminal: boolean): VmctlError | null {
  const code = errorCode(error);
  if (code === 'EPIPE' || (isTerminal && code === 'EIO')) return null;
  const hint = code === 'ENOSPC' ? { hint: 'Free some space where it goes, and run the command again.' } : {};
  return new VmctlError('OUTPUT', `cannot write to stdout: ${systemWords(error)}`, { cause: error, ...hint });
}

function systemWords(error: unknown): string {
  const number = error instanceof Error && 'errno' in error ? error.errno : null;
  const known = typeof number === 'number' ? getSystemErrorMap().get(number) : undefined;
  return known?.[1] ?? (error instanceof Error ? error.message : String(error));
}

/** Writes; settles when more is welcome, when nobody reads any more, or when the signal says so. */
export async function writeOutput(output: OutputStream, chunk: Uint8Array, cancel: AbortSignal): Promise<void> {
  if (output.write(chunk) !== false || !(output instanceof Writable) || output.destroyed) return;
  const settled = new AbortController();
  const signal = AbortSignal.any([settled.signal, cancel]);
  try {
    await Promise.race([once(output, 'drain', { signal }), once(output, 'close', { signal })]);
  } catch {
    // Cancelled, or failed: whoever listens for the stream's errors hears of it.
  } finally {
    settled.abort();
  }
}
