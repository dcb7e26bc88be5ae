/** Waiting that can be cancelled, has a deadline, and looks often at first. */
import { setImmediate as turn, setTimeout as sleep } from 'node:timers/promises';
import { VmctlError } from '../errors.js';

const FIRST_DELAY_MS = 20;
const LONGEST_DELAY_MS = 250;

/** Delays between two looks at something that cannot tell by itself: 20 ms, half more each time, 250 ms at most. */
export function* backOff(): Generator<number, never> {
  for (let delay = FIRST_DELAY_MS; ; delay = Math.min(LONGEST_DELAY_MS, delay * 1.5)) yield delay;
}

export interface WaitOptions {
  /** Milliseconds from now. */
  readonly timeoutMs: number;
  readonly signal?: AbortSignal;
}

/**
 * Calls `look` until it gives something other than null; gives null itself when the time is up.
 * Throws `ABORTED` when cancelled.
 */
export async function waitFor<T>(look: () => Promise<T | null>, options: WaitOptions): Promise<T | null> {
  const deadline = performance.now() + options.timeoutMs;
  for (const delay of backOff()) {
    throwIfAborted(options.signal);
    const found = await look();
    if (found !== null) return found;
    const left = deadline - performance.now();
    if (left <= 0) return null;
    await pause(Math.min(delay, left), options.signal);
  }
  return null;
}

/** Sleeps; throws `ABORTED` when cancelled. */
export async function pause(milliseconds: number, signal?: AbortSignal): Promise<void> {
  try {
    await sleep(milliseconds, undefined, signal === undefined ? {} : { signal });
  } catch (error) {
    throw new VmctlError('ABORTED', 'interrupted', { cause: error });
  }
}

/** After a standstill of this process its timers come first: what has come meanwhile is read in the same turn. */
const afterReading = <T>(value: T) => turn(value);

/** True as soon as the promise settles, false when the time is up first. Throws `ABORTED` when cancelled. */
export async function settlesWithin(
  promise: Promise<unknown>,
  milliseconds: number,
  signal?: AbortSignal,
): Promise<boolean> {
  const timer = new AbortController();
  const stops = signal === undefined ? timer.signal : AbortSignal.any([timer.signal, signal]);
  const settled = promise.then(
    () => true,
    () => true,
  );
  const late = sleep(milliseconds, false, { signal: stops }).then(afterReading, () => false);
  try {
    const inTime = await Promise.race([settled, late]);
    throwIfAborted(signal);
    return inTime;
  } finally {
    timer.abort();
  }
}

/** Gives the promise's value, or throws `ABORTED` as soon as the signal says so. */
export async function unlessAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  throwIfAborted(signal);
  const settled = new AbortController();
  const aborted = new Promise<never>((_resolve, reject) => {
    const stop = () => reject(new VmctlError('ABORTED', 'interrupted', { cause: signal.reason }));
    signal.addEventListener('abort', stop, { once: true, signal: settled.signal });
  });
  try {
    return await Promise.race([promise, aborted]);
  } finally {
    settled.abort();
  }
}

export function throwIfAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted === true) throw new VmctlError('ABORTED', 'interrupted', { cause: signal.reason });
}

/** Gives the promise's value, or throws what `late` makes when it takes longer than this. */
export async function withDeadline<T>(promise: Promise<T>, timeoutMs: number, late: () => Error): Promise<T> {
  const timer = new AbortController();
  const alarm = sleep(timeoutMs, undefined, { signal: timer.signal }).then(
    async () => {
      await afterReading(undefined);
      throw late();
    },
    () => promise,
  );
  try {
    return await Promise.race([promise, alarm]);
  } finally {
    timer.abort();
  }
}
