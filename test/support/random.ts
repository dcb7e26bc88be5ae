/**
 * Random choices that can be made again: whoever names the seed gets the same ones. `VMCTL_SEED` chooses it, and
 * `VMCTL_FAULTS=full` (`npm run faults`) the long runs.
 */
export class Random {
  readonly seed: number;
  #state: number;

  constructor(seed: number) {
    this.seed = seed >>> 0;
    this.#state = this.seed;
  }

  /** From 0 to below 1. The generator is mulberry32: 32 bits of state, and fast. */
  next(): number {
    this.#state = (this.#state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(this.#state ^ (this.#state >>> 15), 1 | this.#state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  }

  /** An integer from 0 to below `end`; 0 where that is none. */
  below(end: number): number {
    return Math.floor(this.next() * end);
  }

  chance(probability: number): boolean {
    return this.next() < probability;
  }

  pick<T>(choices: readonly T[]): T {
    const index = this.below(choices.length);
    if (index >= choices.length) throw new Error('there is nothing to choose from');
    return choices.slice(index, index + 1).reduce((_none, choice) => choice);
  }
}

/** The seed that was asked for, or this one. */
export function chosenSeed(otherwise: number): number {
  const asked = Number.parseInt(process.env['VMCTL_SEED'] ?? '', 10);
  return Number.isNaN(asked) ? otherwise : asked;
}

/** Whether the long runs are wanted, which take more time than each change can wait for. */
export const FULL_RUN = process.env['VMCTL_FAULTS'] === 'full';
