/** Trying again after what may pass: with growing pauses, as long as it helps, and no sooner than the server asks. */
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

/** Failures of one piece of work so far. */
export class Retries {
  readonly #options: RetryOptions;
  #failures = 0;

  constructor(options: RetryOptions) {
    this.#options = options;
  }

  /** What was got since the last failure is worth another round of attempts. */
  forget(): void {
    this.#failures = 0;
  }

  /** Waits until the next attempt may begin. Throws the failure itself when there is no further one, and `ABORTED`. */
  async pauseAfter(failure: TransientFailure): Promise<void> {
    const { delaysMs, reporter, signal } = this.#options;
    const delay = delaysMs[this.#failures];
    if (delay === undefined) throw failure.error;
    this.#failures += 1;
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
    reporter.log(failure.message, 'note');
    reporter.status(`trying again in ${(wait / 1000).toFixed(1)} s`);
    await pause(wait, signal);
  }
}

/** Runs the work until it succeeds or fails for good. */
export async function retrying<T>(work: () => Promise<T>, options: RetryOptions): Promise<T> {
  const retries = new Retries(options);
  for (;;) {
    try {
      return await work();
    } catch (error) {
      if (!(error instanceof TransientFailure)) throw error;
      await retries.pauseAfter(error);
    }
  }
}
