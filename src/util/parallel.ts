/** Doing the same with many things, several at a time. */

export interface ParallelOptions {
  /** How many at a time. */
  readonly limit: number;
  /** Told at the first failure, so that what is under way can stop. */
  readonly onFailure?: () => void;
}

/**
 * Calls `work` for each item, several at a time, and settles when nothing is under way any more. After a failure
 * nothing new is begun; the first one is thrown.
 */
export async function forEachAtOnce<T>(
  items: Iterable<T>,
  options: ParallelOptions,
  work: (item: T) => Promise<void>,
): Promise<void> {
  const failures: unknown[] = [];
  const queue = items[Symbol.iterator]();
  const worker = async (): Promise<void> => {
    for (let next = queue.next(); failures.length === 0 && next.done !== true; next = queue.next()) {
      try {
        await work(next.value);
      } catch (error) {
        if (failures.push(error) === 1) options.onFailure?.();
      }
    }
  };
  await Promise.all(Array.from({ length: options.limit }, worker));
  if (failures.length > 0) throw failures[0];
}
