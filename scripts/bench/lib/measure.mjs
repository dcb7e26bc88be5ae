// What a row of the table is, and how one is made: the subject and its reference in turn, so that a machine that is slow
// or busy slows down both.

/** A bar that a ratio is held against: at most so many times the reference. */
export function atMost(limit) {
  return { words: `at most ${limit} times`, limit: () => limit };
}

/** At most so many milliseconds more than the reference. */
export function atMostMore(ms) {
  return { words: `at most ${ms} ms more`, limit: ({ reference }) => (reference + ms) / reference };
}

/** At most so much of the row's unit, whatever the reference has. */
export function atMostValue(value, words) {
  return { words, limit: ({ reference }) => value / reference };
}

/** At least so many times as fast as the reference. */
export function timesFaster(times) {
  return { words: `at least ${times} times as fast`, limit: () => 1 / times };
}

/** At least that share of the reference's speed. */
export function atLeastSpeed(share) {
  return { words: `at least ${share} of its speed`, limit: () => 1 / share };
}

export const NO_BAR = { words: '', limit: () => null };

/**
 * A row. `run` and `reference.run` give a number each time (milliseconds unless `unit` says otherwise), or a promise of
 * one; they take turns, after one turn that is thrown away unless `warmUp` is false.
 */
export async function compare(name, run, options) {
  const { reference, bar = NO_BAR, unit = 'ms', rounds, warmUp = true, note = '' } = options;
  const [own, others] = [[], []];
  if (warmUp) {
    await reference.run();
    await run();
  }
  for (let round = 0; round < rounds; round += 1) {
    others.push(await reference.run());
    own.push(await run());
  }
  return row(name, { own, others, reference: reference.name, bar, unit, note });
}

/** A row of numbers that are there already, as many of the subject as of the reference, in the order of their turns. */
export function row(name, { own, others, reference, bar = NO_BAR, unit = 'ms', note = '' }) {
  const [value, referenceValue] = [median(own), median(others)];
  const limit = bar.limit({ reference: referenceValue });
  const ratio = value / referenceValue;
  const pairs = own.map((one, i) => one / others[i]);
  return {
    name,
    unit,
    value,
    spread: [quantile(own, 0.1), quantile(own, 0.9)],
    reference: { name: reference, value: referenceValue },
    ratio,
    ratioSpread: [quantile(pairs, 0.1), quantile(pairs, 0.9)],
    rounds: own.length,
    bar: limit === null ? null : { words: bar.words, limit, met: ratio <= limit },
    note,
  };
}

export function median(numbers) {
  return quantile(numbers, 0.5);
}

export function quantile(numbers, share) {
  const sorted = numbers.toSorted((a, b) => a - b);
  return sorted[Math.round((sorted.length - 1) * share)];
}
