/** Making one VM without a VMFile: resolve and prepare, and start if that was asked for. */
import { basename } from 'node:path';
import type { ListrTask } from 'listr2';
import { VmctlError } from '../src/errors.js';
import { type StageContext, silentReporter } from '../src/model/event.js';
import type { VmSpec } from '../src/model/spec.js';
import type { ResolvedVm, VmHandle } from '../src/model/vm.js';
import type { RegistryEntry } from '../src/registry.js';
import { type TaskEnvironment, takePlace } from './context.js';
import { prepareVm } from './prepare.js';
import { recordFailure } from './record-failure.js';
import { resolveVm } from './resolve.js';
import { startVm } from './start.js';
import { type TaskGraph, runningSummary } from './up.js';
import { tildePath } from './progress-text.js';
import { type StepResult, VmRun } from './vm-run.js';

export interface CreateOptions {
  readonly spec: VmSpec;
  readonly start: boolean;
}

export function createTasks(env: TaskEnvironment, options: CreateOptions): TaskGraph {
  const flow = new CreateFlow(env, options);
  return { tasks: [flow.task()], runs: new Map([[flow.run.name, flow.run]]) };
}

class CreateFlow {
  readonly run: VmRun;
  readonly #env: TaskEnvironment;
  readonly #options: CreateOptions;
  #resolved: ResolvedVm | null = null;
  #made: { readonly handle: VmHandle; readonly entry: RegistryEntry } | null = null;

  constructor(env: TaskEnvironment, options: CreateOptions) {
    this.#env = env;
    this.#options = options;
    this.run = new VmRun({
      name: options.spec.name,
      env,
      last: options.start ? 'start' : 'prepare',
      outcome: () => 'done',
      onFailure: async (step, error) => {
        if (this.#made !== null) await recordFailure(env, this.#made.entry, { step, error });
      },
    });
  }

  task(): ListrTask {
    const { run } = this;
    const steps = [
      run.step('resolve', (context) => this.#resolve(context)),
      run.step('prepare', (context) => this.#prepare(context)),
      ...(this.#options.start ? [run.step('start', (context) => this.#start(context))] : []),
    ];
    return {
      title: run.name,
      task: (_context, task) => task.newListr(steps, { concurrent: false, exitOnError: true }),
    };
  }

  async #resolve(context: StageContext): Promise<StepResult> {
    const { registry, hypervisor, events } = this.#env;
    const { spec } = this.#options;
    const { name } = spec;
    await this.run.lock(context);
    const there = await registry.get(name);
    if (there !== null) throw existsError(name, there.project);
    // How fast guests run concerns who starts one.
    const reporter = this.#options.start ? events.reporter(null, 'start') : silentReporter;
    const aboutHost = { signal: context.signal, reporter };
    await hypervisor.checkHost(aboutHost, spec);
    this.#resolved = await resolveVm(this.#env, spec, context);
    return { done: basename(this.#resolved.image.path) };
  }

  async #prepare(context: StageContext): Promise<StepResult> {
    if (this.#resolved === null) throw new VmctlError('INTERNAL', 'Internal error: nothing was resolved');
    const handle = await prepareVm(this.#env, this.#resolved, context);
    const entry = await this.#env.registry.get(handle.name);
    if (entry !== null) this.#made = { handle, entry };
    return { done: tildePath(handle.directory, this.#env.home) };
  }

  async #start(context: StageContext): Promise<StepResult> {
    if (this.#made === null) throw new VmctlError('INTERNAL', 'Internal error: nothing was prepared');
    this.run.atEnd(await takePlace(this.#env.limits.boots, context.signal));
    const { handle, entry } = this.#made;
    return {
      done: runningSummary(await startVm(this.#env, { stopped: { state: 'stopped', handle }, entry }, context)),
    };
  }
}

function existsError(name: string, project: string | null): VmctlError {
  const owner = project === null ? '' : `; it belongs to ${project}`;
  return new VmctlError('VM_EXISTS', `a VM "${name}" exists already${owner}`, {
    hint: `Choose another name, or remove that VM with: vmctl destroy ${name}`,
    fields: { vm: name, owner: project },
  });
}
