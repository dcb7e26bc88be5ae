/** Another try after what may pass, as the server and a growing pause allow. */
import { VmctlError } from '../errors.js';
import type { StageContext } from '../model/event.js';
import { pause } from '../util/wait.js';
import { TransientFailure } from './http.js';

export interface RetryOptions extends StageContext {
  /** Milliseconds before the second attempt, the third, and so on. */
  readonly delaysMs: readonly number[];
}

/** A server that wants a longer break than this is not waited for. */
const LONGEST_RETRY_AFTER_MS = 60_000;

/**
 * Does the work, again after each `TransientFailure` while there are pauses left; `attempt` counts from 1. Throws the
 * error that the last failure carries, whatever else the work throws, and `ABORTED`.
 */
export async function retrying<T>(work: (attempt: number) => Promise<T>, options: RetryOptions): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await work(attempt);
    } catch (error) {
      if (!(error instanceof TransientFailure)) throw error;
      const delay = options.delaysMs[attempt - 1];
      if (delay === undefined) throw error.error;
      await pauseAfter(error, delay, options);
    }
  }
}

async function pauseAfter(failure: TransientFailure, delay: number, options: RetryOptions): Promise<void> {
  const asked = failure.retryAfterMs ?? 0;
  if (asked > LONGEST_RETRY_AFTER_MS) {
    throw new VmctlError(failure.error.code, `${failure.message}, and wants no request for ${asked / 1000} s`, {
      hint: 'Try again later.',
      cause: failure.error,
      fields: failure.error.fields,
    });
  }
  // Several hosts that failed together should not come back together.
  const wait = Math.max(asked, delay * (1 + Math.random() / 4));
  options.reporter.log(failure.message, 'note');
  options.reporter.status(`trying again in ${(wait / 1000).toFixed(1)} s`);
  await pause(wait, options.signal);
}
