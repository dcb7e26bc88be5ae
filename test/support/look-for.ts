import { backOff, pause } from '../../src/util/wait.js';

/**
 * Looks until there is something, and gives null when that took longer than this. Only the pauses between two looks
 * count, in milliseconds: while the machine stands still, nobody had the time that is asked for here.
 */
export async function lookFor<T>(look: () => Promise<T | null>, timeMs: number): Promise<T | null> {
  let left = timeMs;
  for (const delay of backOff()) {
    const found = await look();
    if (found !== null || left <= 0) return found;
    await pause(Math.min(delay, left));
    left -= delay;
  }
  return null;
}
