/** Somebody who waits for a guest waits in vain once its VM has stopped. */
import { pause } from '../util/wait.js';

/** How often is looked whether the VM still runs. */
const ALIVE_CHECK_MS = 250;

/**
 * Aborts `end` with `'stopped'` when the VM has stopped, and with the error when nobody can say whether it has. Ends as
 * soon as `end` is aborted.
 */
export async function watch(stillRunning: () => Promise<boolean>, end: AbortController): Promise<void> {
  try {
    for (;;) {
      await pause(ALIVE_CHECK_MS, end.signal);
      if (!(await stillRunning())) end.abort('stopped');
    }
  } catch (error) {
    end.abort(error);
  }
}
