/** The steps of a VM in their order: which are run, and what is remembered of those that succeeded. */
import type { StageReporter } from '../model/event.js';
import { type ProvisionStep, type StepSuccess, stepTitle } from '../model/spec.js';
import { throwIfAborted } from '../util/wait.js';
import { stepDigest } from './step-digest.js';
import { type StepDecision, carriedOver, planSteps, withSuccess } from './step-plan.js';

export interface StepMemory {
  /** What succeeded before, in this VM. */
  readonly history: readonly StepSuccess[];
  /** Called when that changes, with everything to remember from then on. */
  readonly remember: (history: readonly StepSuccess[]) => Promise<void>;
}

export interface SequenceOptions extends StepMemory {
  readonly reporter: StageReporter;
  readonly signal: AbortSignal;
}

/** How many steps were run; the others had no reason to. */
export interface StepCounts {
  readonly run: number;
  readonly skipped: number;
}

export interface PlannedStep extends StepDecision {
  readonly step: ProvisionStep;
}

/** Reads the steps' files and decides for each whether it is to be run. */
export async function planProvision(
  steps: readonly ProvisionStep[],
  history: readonly StepSuccess[],
): Promise<readonly PlannedStep[]> {
  const facts = [];
  for (const step of steps) facts.push({ run: step.run, digest: await stepDigest(step) });
  const decisions = planSteps(facts, history);
  return steps.flatMap((step, index) => {
    const decision = decisions[index];
    return decision === undefined ? [] : [{ ...decision, step }];
  });
}

/** Runs the steps that are to be run, one after the other, until the first that fails; that failure is thrown on. */
export async function runInOrder(
  steps: readonly ProvisionStep[],
  options: SequenceOptions,
  run: (step: ProvisionStep, number: number) => Promise<void>,
): Promise<StepCounts> {
  const plan = await planProvision(steps, options.history);
  const memory = new LateMemory(options.remember);
  const counts = { run: 0, skipped: 0 };
  let history = carriedOver(plan);
  try {
    for (const { step, number, digest, runs, known, reason, earlier } of plan) {
      throwIfAborted(options.signal);
      if (!runs) {
        options.reporter.log(`step ${number}/${plan.length} skipped, ${reason}: ${stepTitle(step)}`);
        counts.skipped += 1;
        continue;
      }
      if (earlier !== null) {
        // Should it fail now, it has to run again, even if it is changed back to what succeeded before.
        history = history.filter((success) => success.number !== number);
        memory.set(history);
        if (known === 'edited') await memory.settle();
      }
      await run(step, number);
      counts.run += 1;
      if (digest === null) continue;
      history = withSuccess(history, { number, digest });
      memory.set(history);
      memory.throwFailure();
    }
  } catch (error) {
    // It is the failure of a step that is told, unless there is no other.
    await memory.settle().catch(() => {});
    throw error;
  }
  await memory.settle();
  return counts;
}

/**
 * Remembers while the next step runs, and of several changes that come meanwhile only the last one: otherwise many small
 * steps would take as long as the disk takes to sync for each.
 */
class LateMemory {
  readonly #remember: StepMemory['remember'];
  #next: readonly StepSuccess[] | null = null;
  #writing: Promise<void> | null = null;
  #failure: { readonly error: unknown } | null = null;

  constructor(remember: StepMemory['remember']) {
    this.#remember = remember;
  }

  set(history: readonly StepSuccess[]): void {
    this.#next = history;
    this.#writing ??= this.#write();
  }

  throwFailure(): void {
    if (this.#failure !== null) throw this.#failure.error;
  }

  /** Waits until the last change is remembered. Throws what kept one from it. */
  async settle(): Promise<void> {
    await this.#writing;
    this.throwFailure();
  }

  async #write(): Promise<void> {
    try {
      while (this.#next !== null) {
        const history = this.#next;
        this.#next = null;
        await this.#remember(history);
      }
    } catch (error) {
      this.#failure ??= { error };
    } finally {
      this.#writing = null;
    }
  }
}
