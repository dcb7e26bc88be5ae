/** Which steps are run, decided from what they do now and from what succeeded before. */
import { unreachable } from '../errors.js';
import type { RunPolicy } from '../model/definition.js';
import type { StepSuccess } from '../model/spec.js';

export interface StepFacts {
  readonly run: RunPolicy;
  /** Null where a file of the step cannot be read. */
  readonly digest: string | null;
}

export interface StepDecision {
  readonly number: number;
  readonly digest: string | null;
  /** Whether it has succeeded before: as it is now, as it was before somebody edited it, or not at all. */
  readonly known: 'same' | 'edited' | 'new';
  readonly runs: boolean;
  /** In a few words, for `up --dry-run` and the log. */
  readonly reason: string;
  /** The success that this step is recognised in; it is replaced when the step succeeds again. */
  readonly earlier: StepSuccess | null;
}

/**
 * A step is recognised by what it does, wherever it stands now; one that does something else, by its place. So a step
 * that is put before others does not make them run again, and an edited one is known to be the same step.
 */
export function planSteps(steps: readonly StepFacts[], history: readonly StepSuccess[]): readonly StepDecision[] {
  const open = new Set(history);
  const take = (fits: (success: StepSuccess) => boolean): StepSuccess | null => {
    const found = [...open].find(fits) ?? null;
    if (found !== null) open.delete(found);
    return found;
  };
  const same = steps.map((step) => take(({ digest }) => digest === step.digest));
  return steps.map((step, index) => {
    const unchanged = same[index] ?? null;
    const edited = unchanged === null ? take(({ number }) => number === index + 1) : null;
    const known = unchanged !== null ? 'same' : edited !== null ? 'edited' : 'new';
    return { number: index + 1, digest: step.digest, known, ...decide(step.run, known), earlier: unchanged ?? edited };
  });
}

/** Of the policies that run a step whatever has succeeded before. */
const REASONS = { always: 'always', each: 'on each VM' } as const;

function decide(run: RunPolicy, known: StepDecision['known']): Pick<StepDecision, 'runs' | 'reason'> {
  if (run === 'always' || run === 'each') return { runs: true, reason: REASONS[run] };
  if (known === 'new') return { runs: true, reason: 'has not succeeded yet' };
  switch (run) {
    case 'once':
      return known === 'same'
        ? { runs: false, reason: 'succeeded before (once)' }
        : { runs: false, reason: 'succeeded before (once); what it does has changed since' };
    case 'on-change':
      return known === 'same'
        ? { runs: false, reason: 'has not changed' }
        : { runs: true, reason: 'what it does has changed' };
    default:
      return unreachable(run);
  }
}

/** What is to be remembered before the steps are run: every success that still belongs to a step, at its place now. */
export function carriedOver(plan: readonly StepDecision[]): readonly StepSuccess[] {
  return plan.flatMap(({ number, earlier }) => (earlier === null ? [] : [{ number, digest: earlier.digest }]));
}

/** The same after one of them has succeeded. */
export function withSuccess(history: readonly StepSuccess[], success: StepSuccess): readonly StepSuccess[] {
  return [...history.filter(({ number }) => number !== success.number), success].toSorted(
    (a, b) => a.number - b.number,
  );
}
