/** The way down: VMs are stopped, those that depend on others first, and destroyed if that was asked for. */
import type { ListrTask } from 'listr2';
import type { StageContext, Step } from '../src/model/event.js';
import type { VmHandle } from '../src/model/vm.js';
import type { RegistryEntry } from '../src/registry.js';
import type { VmctlError } from '../src/errors.js';
import type { TaskEnvironment } from './context.js';
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
  /** Null where the VM's files are damaged; then it can still be destroyed. */
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
      onFailure: (step, error) => this.#recordFailure(step, error),
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
    await this.run.lock(context);
    const { destroy, entry } = this.#options;
    // Looked at again under the lock: another vmctl may have destroyed it meanwhile.
    if ((await this.#env.registry.get(entry.name)) === null) return { skipped: 'already gone' };
    if (this.#options.handle === null && destroy) return { skipped: 'its files are damaged' };
    const handle = await this.#env.registry.handle(entry);
    const observed = await this.#env.hypervisor.observe(handle);
    if (observed.state === 'stopped') return { skipped: 'already stopped' };
    await this.#awaitDependents(context);
    // What is to be destroyed has nothing to save.
    const graceMs = destroy ? 0 : this.#options.graceMs;
    const method = await this.#env.hypervisor.stop(observed, { graceMs }, context);
    this.#changed = true;
    return { done: STOPPED_BY[method] };
  }

  async #destroy(context: StageContext): Promise<StepResult> {
    const { entry } = this.#options;
    if ((await this.#env.registry.get(entry.name)) === null) return { skipped: 'already gone' };
    const { handle } = this.#options;
    if (handle === null) await this.#env.hypervisor.discard(entry);
    else await this.#env.hypervisor.destroy(handle, context);
    await this.#env.registry.remove(entry.name);
    this.#changed = true;
    return { done: 'every file removed' };
  }

  async #awaitDependents(context: StageContext): Promise<void> {
    const name = this.run.name;
    const dependents = [...this.#options.flows.values()].filter((flow) => flow.#dependsOn.includes(name));
    if (dependents.length > 0) {
      context.reporter.status(`waiting for ${dependents.map(({ run }) => run.name).join(', ')} to stop first`);
    }
    for (const { run } of dependents) await run.ended;
  }

  async #recordFailure(step: Step, error: VmctlError): Promise<void> {
    const { entry } = this.#options;
    if (error.code === 'ABORTED' || (await this.#env.registry.get(entry.name)) === null) return;
    const lastFailure = { step, time: new Date().toISOString(), error: error.toJSON() };
    await this.#env.registry.updateRecord(entry, { lastFailure });
  }
}

const STOPPED_BY = {
  guest: 'powered off by itself',
  SIGTERM: 'ended by SIGTERM',
  SIGKILL: 'ended by SIGKILL',
} as const;
