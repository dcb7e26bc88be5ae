/**
 * One VM on its way through the steps of one command: it holds the VM's lock, turns each step into a listr2 task,
 * tells the events, and says once how it ended.
 */
import type { ListrRenderer, ListrTask, ListrTaskWrapper } from 'listr2';
import { VmctlError, type VmctlErrorJson, toVmctlError } from '../src/errors.js';
import type { StageContext, Step, VmEvent } from '../src/model/event.js';
import { acquireLock } from '../src/util/lock.js';
import type { TaskEnvironment } from './context.js';
import { progressReader } from './progress-text.js';

/** How a VM's run ended. */
export type VmOutcome =
  | { readonly result: 'done' | 'unchanged' }
  | { readonly result: 'failed'; readonly step: Step; readonly error: VmctlError };

/** The part of listr2's wrapper that a step uses; nothing of it depends on the renderer. */
type StepTask = Pick<
  ListrTaskWrapper<unknown, typeof ListrRenderer, typeof ListrRenderer>,
  'title' | 'output' | 'skip'
>;

/** What a step gives back: a few words for the one who watches, or that there was nothing to do. */
export type StepResult = { readonly done: string } | { readonly skipped: string };

export interface VmRunOptions {
  readonly name: string;
  readonly env: TaskEnvironment;
  /** The step that ends the run. */
  readonly last: Step;
  /** How the run ended, asked after the last step. */
  readonly outcome: () => 'done' | 'unchanged';
  /**
   * Called when a step failed or was interrupted while the VM's lock is held, before it is released: undoes what is
   * half done. A run that never got the lock has nothing to undo and may not touch the VM's record.
   */
  readonly onFailure: (step: Step, error: VmctlError) => Promise<void>;
}

export class VmRun {
  readonly name: string;
  /** Settles when the run has ended, however it did; never rejects. */
  readonly ended: Promise<VmOutcome>;
  readonly #env: TaskEnvironment;
  readonly #options: VmRunOptions;
  #settle: (outcome: VmOutcome) => void = () => {};
  #releases: (() => Promise<void> | void)[] = [];
  #locked = false;

  constructor(options: VmRunOptions) {
    this.name = options.name;
    this.#env = options.env;
    this.#options = options;
    this.ended = new Promise((resolve) => {
      this.#settle = resolve;
    });
  }

  /** A listr2 task for one step. A failure ends the run and is thrown on, so that listr2 stops this VM's list. */
  step(step: Step, work: (context: StageContext) => Promise<StepResult>): ListrTask {
    return { title: step, task: (_context, task) => this.#run(step, task, work) };
  }

  /** Takes the VM's lock until the run ends. `onWait` is called when somebody else has it. */
  async lock(context: StageContext, onWait: () => void = () => {}): Promise<void> {
    const { paths, command } = this.#env;
    const release = await acquireLock(paths.vmLock(this.name), {
      command,
      signal: context.signal,
      // The other one may be waiting for a slow guest; it is alive, and a dead one's lock is taken over.
      timeoutMs: Number.POSITIVE_INFINITY,
      onWait: (owner) => {
        onWait();
        context.reporter.status(`waiting for "${owner.command}" (pid ${owner.pid}) to finish with it`, {
          kind: 'waiting',
          on: 'lock',
        });
      },
    });
    this.#locked = true;
    this.atEnd(release);
  }

  /** Runs when the run ends, last come first. */
  atEnd(release: () => Promise<void> | void): void {
    this.#releases.push(release);
  }

  /** Ends the run. Others wait for that, so it ends even where something cannot be released. */
  async #end(step: Step, outcome: VmOutcome): Promise<void> {
    const releases = this.#releases.toReversed();
    this.#releases = [];
    for (const release of releases) {
      try {
        await release();
      } catch (error) {
        this.#env.events.reporter(this.name, step).log(`cleaning up failed: ${toVmctlError(error).message}`);
      }
    }
    this.#settle(outcome);
  }

  async #run(step: Step, task: StepTask, work: (context: StageContext) => Promise<StepResult>): Promise<void> {
    const { events, signal } = this.#env;
    const unsubscribe = events.subscribeTo(this.name, this.#viewer(step, task));
    const startedAt = performance.now();
    events.emit(this.name, step, { type: 'started' });
    try {
      if (signal.aborted) throw new VmctlError('ABORTED', 'interrupted');
      const result = await work({ signal, reporter: events.reporter(this.name, step) });
      if ('skipped' in result) events.emit(this.name, step, { type: 'skipped', reason: result.skipped });
      else {
        const durationMs = Math.round(performance.now() - startedAt);
        events.emit(this.name, step, { type: 'done', summary: result.done, durationMs });
      }
      if (step === this.#options.last) await this.#end(step, { result: this.#options.outcome() });
    } catch (thrown) {
      throw await this.#fail(step, toVmctlError(thrown));
    } finally {
      unsubscribe();
    }
  }

  async #fail(step: Step, error: VmctlError): Promise<VmctlError> {
    try {
      if (this.#locked) await this.#options.onFailure(step, error);
    } catch (undoing) {
      this.#env.events.reporter(this.name, step).log(`cleaning up failed as well: ${toVmctlError(undoing).message}`);
    }
    const told: VmctlErrorJson = error.toJSON();
    this.#env.events.emit(this.name, step, { type: 'failed', error: told });
    await this.#end(step, { result: 'failed', step, error });
    return error;
  }

  /** Shows the events of a step on its listr2 task. */
  #viewer(step: Step, task: StepTask): (event: VmEvent) => void {
    const read = progressReader();
    return (event) => {
      if (event.step !== step) return;
      if (event.type === 'done') task.title = event.summary === '' ? step : `${step}: ${event.summary}`;
      else if (event.type === 'skipped') task.skip(`${step}: ${event.reason}`);
      else task.output = read(event) ?? '';
    };
  }
}
