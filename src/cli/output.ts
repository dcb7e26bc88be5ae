/** Data for whoever reads stdout, no faster than he reads. */
import { once } from 'node:events';
import { Writable } from 'node:stream';
import type { OutputStream } from './cli.js';

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
