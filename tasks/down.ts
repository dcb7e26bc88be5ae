/** The way down: VMs are stopped, those that depend on others first, and destroyed if that was asked for. */
import type { ListrTask } from 'listr2';
import type { StageContext } from '../src/model/event.js';
import type { VmHandle } from '../src/model/vm.js';
import type { RegistryEntry } from '../src/registry.js';
import { unlessAborted } from '../src/util/wait.js';
import type { TaskEnvironment } from './context.js';
import { recordFailure } from './record-failure.js';
import { stopVm } from './stop.js';
import { forgetSuspended, suspendedAt } from './suspended.js';
import type { TaskGraph } from './up.js';
import { type StepResult, VmRun } from './vm-run.js';

export interface DownOptions {
  readonly entries: readonly RegistryEntry[];
  readonly destroy: boolean;
  /** How long a guest may take to power off by itself, in milliseconds. */
  readonly graceMs: number;
}

export async function downTasks(env: TaskEnvironment, options: DownOptions): Promise<TaskGraph> {
  const flows = new Map<string, DownFlow>();
  for (const entry of options.entries) {
    const handle = await env.registry.handle(entry).catch(() => null);
    flows.set(entry.name, new DownFlow(env, { ...options, entry, handle, flows }));
  }
  const runs = new Map([...flows].map(([name, flow]) => [name, flow.run]));
  return { tasks: [...flows.values()].map((flow) => flow.task()), runs };
}

interface FlowOptions extends DownOptions {
  readonly entry: RegistryEntry;
  /** As it was at first, for the order; null where it could not be read. */
  readonly handle: VmHandle | null;
  readonly flows: ReadonlyMap<string, DownFlow>;
}

class DownFlow {
  readonly run: VmRun;
  readonly #env: TaskEnvironment;
  readonly #options: FlowOptions;
  #changed = false;

  constructor(env: TaskEnvironment, options: FlowOptions) {
    this.#env = env;
    this.#options = options;
    this.run = new VmRun({
      name: options.entry.name,
      env,
      last: options.destroy ? 'destroy' : 'stop',
      outcome: () => (this.#changed ? 'done' : 'unchanged'),
      onFailure: (step, error) => recordFailure(env, options.entry, { step, error }),
    });
  }

  task(): ListrTask {
    const { run } = this;
    const steps = [run.step('stop', (context) => this.#stop(context))];
    if (this.#options.destroy) steps.push(run.step('destroy', (context) => this.#destroy(context)));
    return {
      title: run.name,
      task: (_context, task) => task.newListr(steps, { concurrent: false, exitOnError: true }),
    };
  }

  get #dependsOn(): readonly string[] {
    return this.#options.handle?.spec.dependsOn ?? [];
  }

  async #stop(context: StageContext): Promise<StepResult> {
    const { destroy, entry } = this.#options;
    // Before the lock: who holds it must not wait for somebody who may be waiting for it.
    await this.#awaitDependents(context);
    await this.run.lock(context);
    // Looked at under the lock: another vmctl may have changed it meanwhile, or have made it anew.
    if (!(await this.#isThere())) return { skipped: 'already gone' };
    if (destroy && (await this.#readable()) === null) return { skipped: 'its files are damaged' };
    const handle = await this.#env.registry.handle(entry);
    // What is to be destroyed has nothing to save.
    const graceMs = destroy ? 0 : this.#options.graceMs;
    const method = await stopVm(this.#env, { handle, graceMs }, context);
    if (method === null) {
      if ((await suspendedAt(handle)) === null) return { skipped: 'already stopped' };
      // As a VM that is suspended in memory loses that when it is stopped.
      await forgetSuspended(handle);
      this.#changed = true;
      return { done: 'its saved memory is given up' };
    }
    this.#changed = true;
    return { done: STOPPED_BY[method] };
  }

  async #destroy(context: StageContext): Promise<StepResult> {
    const { entry } = this.#options;
    if (!(await this.#isThere())) return { skipped: 'already gone' };
    const handle = await this.#readable();
    if (handle === null) await this.#env.hypervisor.discard(entry);
    else await this.#env.hypervisor.destroy(handle, context);
    await this.#env.registry.remove(entry.name);
    this.#changed = true;
    return { done: 'every file removed' };
  }

  /** Whether there is still, or again, a VM of that name of that VMFile. */
  async #isThere(): Promise<boolean> {
    const { entry } = this.#options;
    const now = await this.#env.registry.get(entry.name);
    return now !== null && now.project === entry.project;
  }

  /** Null where its files are damaged; then it can still be destroyed. */
  async #readable(): Promise<VmHandle | null> {
    return this.#env.registry.handle(this.#options.entry).catch(() => null);
  }

  /** Waits until the runs of those that depend on this one have ended, or this command is interrupted. */
  async #awaitDependents(context: StageContext): Promise<void> {
    const dependents = this.#dependents();
    if (dependents.length === 0) return;
    context.reporter.status(`waiting for ${dependents.map(({ run }) => run.name).join(', ')} to stop first`);
    await unlessAborted(Promise.all(dependents.map(({ run }) => run.ended)), context.signal);
  }

  /**
   * Those that depend on this one. The VMs may have been made from different versions of the VMFile, and so depend on
   * each other in a circle; then nobody in it waits.
   */
  #dependents(): readonly DownFlow[] {
    const name = this.run.name;
    return [...this.#options.flows.values()].filter(
      (flow) => flow.#dependsOn.includes(name) && !this.#reaches(flow.run.name, new Set()),
    );
  }

  /** True when this one depends on that one, be it by way of others. */
  #reaches(name: string, seen: Set<string>): boolean {
    if (seen.has(this.run.name)) return false;
    seen.add(this.run.name);
    const { flows } = this.#options;
    const next = this.#dependsOn.map((dependency) => flows.get(dependency)).filter((flow) => flow !== undefined);
    return this.#dependsOn.includes(name) || next.some((flow) => flow.#reaches(name, seen));
  }
}

const STOPPED_BY = {
  guest: 'powered off by itself',
  halt: 'its power was cut',
  SIGTERM: 'ended by SIGTERM',
  SIGKILL: 'ended by SIGKILL',
} as const;
