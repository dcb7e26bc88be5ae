/** The up flow: one listr2 task per VM, all at the same time, with the five steps under each. */
import { basename } from 'node:path';
import type { ListrTask } from 'listr2';
import { VmctlError } from '../src/errors.js';
import { type StageContext, type Step, silentReporter } from '../src/model/event.js';
import type { VmSpec } from '../src/model/spec.js';
import type { ObservedVm, ResolvedVm, RunningVm } from '../src/model/vm.js';
import type { Registry, RegistryEntry } from '../src/registry.js';
import { unlessAborted } from '../src/util/wait.js';
import { type TaskEnvironment, takePlace } from './context.js';
import { prepareVm } from './prepare.js';
import { recordFailure } from './record-failure.js';
import { provisionVm } from './provision.js';
import { resolveVm } from './resolve.js';
import { startVm } from './start.js';
import { type UpAction, changedNodes, decideUp } from './up-plan.js';
import { type StepResult, VmRun } from './vm-run.js';

export interface UpOptions {
  /** The VMs to bring up; whatever they depend on has to be among them. */
  readonly specs: readonly VmSpec[];
  /** False: stop before provisioning. */
  readonly provision: boolean;
}

/** How long an interrupted VM may take to power off by itself. */
const INTERRUPTED_GRACE_MS = 10_000;

/** The tasks of an up, and how each VM's run ended. The tasks fit into anybody's Listr. */
export interface TaskGraph {
  readonly tasks: readonly ListrTask[];
  readonly runs: ReadonlyMap<string, VmRun>;
}

export function upTasks(env: TaskEnvironment, options: UpOptions): TaskGraph {
  const flows = new Map<string, UpFlow>();
  for (const spec of options.specs) {
    flows.set(spec.name, new UpFlow(env, { spec, provision: options.provision, flows }));
  }
  const runs = new Map([...flows].map(([name, flow]) => [name, flow.run]));
  return { tasks: [...flows.values()].map((flow) => flow.task()), runs };
}

interface FlowOptions {
  readonly spec: VmSpec;
  readonly provision: boolean;
  readonly flows: ReadonlyMap<string, UpFlow>;
}

/** One VM's way up: what each step found or made, for the steps after it. */
class UpFlow {
  readonly run: VmRun;
  readonly #env: TaskEnvironment;
  readonly #spec: VmSpec;
  readonly #options: FlowOptions;
  #action: UpAction = { kind: 'create' };
  #entry: RegistryEntry | null = null;
  #resolved: ResolvedVm | null = null;
  #vm: ObservedVm | null = null;
  /** What an interruption has to take back: this run has started the VM, and how far it is. */
  #begun: 'no' | 'booting' | 'ready' = 'no';
  #leaveBoots: () => void = () => {};

  constructor(env: TaskEnvironment, options: FlowOptions) {
    this.#env = env;
    this.#spec = options.spec;
    this.#options = options;
    this.run = new VmRun({
      name: options.spec.name,
      env,
      last: 'provision',
      outcome: () => (this.#action.kind === 'none' ? 'unchanged' : 'done'),
      onFailure: (step, error) => this.#undo(step, error),
    });
    this.run.atEnd(() => this.#leaveBoots());
  }

  task(): ListrTask {
    const { run } = this;
    const steps = [
      run.step('parse', async () => ({ done: specSummary(this.#spec) })),
      run.step('resolve', (context) => this.#resolve(context)),
      run.step('prepare', (context) => this.#prepare(context)),
      run.step('start', (context) => this.#start(context)),
      run.step('provision', (context) => this.#provision(context)),
    ];
    return {
      title: run.name,
      task: (_context, task) => task.newListr(steps, { concurrent: false, exitOnError: true }),
    };
  }

  /** Finds out what there is already, and gets what is missing. */
  async #resolve(context: StageContext): Promise<StepResult> {
    const { registry, hypervisor, events } = this.#env;
    await this.run.lock(context);
    this.#entry = await ownEntry(registry, this.#spec);
    if (this.#entry !== null) {
      const handle = await registry.handle(this.#entry);
      this.#vm = await hypervisor.observe(handle);
      noteChanges(changedNodes(handle.spec, this.#spec), this.#spec.name, context);
    }
    const record = this.#entry === null ? null : await registry.record(this.#entry);
    this.#action = decideUp({ observed: this.#vm, record });
    if (this.#action.kind === 'none') return { skipped: 'already running' };
    const made = this.#vm?.handle;
    const aboutHost = { signal: context.signal, reporter: events.reporter(null, 'start') };
    await hypervisor.checkHostFor(made?.backend ?? hypervisor.kind, aboutHost, made?.spec ?? this.#spec);
    if (this.#action.kind !== 'create') return { skipped: 'already there' };
    this.#resolved = await resolveVm(this.#env, this.#spec, context);
    return { done: basename(this.#resolved.image.path) };
  }

  async #prepare(context: StageContext): Promise<StepResult> {
    if (this.#resolved === null) return { skipped: this.#action.kind === 'none' ? 'already running' : 'already there' };
    const handle = await prepareVm(this.#env, this.#resolved, context);
    this.#vm = { state: 'stopped', handle };
    this.#entry = await this.#env.registry.get(handle.name);
    return { done: handle.directory };
  }

  async #start(context: StageContext): Promise<StepResult> {
    const vm = this.#vm;
    if (vm === null || this.#entry === null) throw new VmctlError('INTERNAL', 'Internal error: nothing was prepared');
    if (vm.state === 'running') return { skipped: 'already running' };
    await this.#awaitDependencies(context);
    this.#leaveBoots = await this.#takeBootPlace(context);
    if (vm.state === 'suspended') {
      // Not this run's to stop again: it may have run for days before it was paused.
      this.#vm = await this.#env.hypervisor.resume(vm, context);
    } else {
      this.#begun = 'booting';
      this.#vm = await startVm(this.#env, { stopped: vm, entry: this.#entry }, context);
    }
    return { done: runningSummary(this.#vm) };
  }

  async #provision(context: StageContext): Promise<StepResult> {
    const vm = this.#vm;
    if (vm === null || vm.state !== 'running' || this.#entry === null) {
      throw new VmctlError('INTERNAL', 'Internal error: nothing was started');
    }
    if (this.#action.kind === 'none') return { skipped: 'already provisioned' };
    if (!this.#options.provision) return { skipped: 'not asked for' };
    const onReady = () => {
      if (this.#begun === 'booting') this.#begun = 'ready';
      this.#leaveBoots();
    };
    const record = await this.#env.registry.record(this.#entry);
    const runSteps = record.provisioning !== 'done';
    const options = { spec: this.#spec, runSteps, onReady };
    const { stepsRun } = await provisionVm(this.#env, vm, options, context);
    await this.#env.registry.updateRecord(this.#entry, { provisioning: 'done', lastFailure: null });
    return { done: `${stepsRun} ${stepsRun === 1 ? 'step' : 'steps'} run` };
  }

  /** Throws `DEPENDENCY_FAILED`, naming the chain, when a VM that this one needs did not come up. */
  async #awaitDependencies(context: StageContext): Promise<void> {
    const flows = this.#spec.dependsOn
      .map((name) => this.#options.flows.get(name))
      .filter((flow) => flow !== undefined);
    if (flows.length > 0) context.reporter.status(`waiting for ${flows.map(({ run }) => run.name).join(', ')}`);
    for (const { run } of flows) {
      const outcome = await unlessAborted(run.ended, context.signal);
      if (outcome.result !== 'failed') continue;
      if (outcome.error.code === 'ABORTED') throw outcome.error;
      const chain = outcome.error.code === 'DEPENDENCY_FAILED' ? `: ${outcome.error.message}` : '';
      throw new VmctlError(
        'DEPENDENCY_FAILED',
        `"${this.run.name}" was not started, because "${run.name}" failed${chain}`,
        {
          fields: { vm: this.run.name, dependency: run.name },
        },
      );
    }
  }

  async #takeBootPlace(context: StageContext): Promise<() => void> {
    const { boots } = this.#env.limits;
    if (boots.pending >= boots.concurrency) context.reporter.status('waiting for another guest to finish booting');
    return takePlace(boots, context.signal);
  }

  /** Records the failure; after an interruption also stops what this run has begun. */
  async #undo(step: Step, error: VmctlError): Promise<void> {
    const entry = this.#entry ?? (await this.#env.registry.get(this.run.name));
    if (entry === null || entry.project !== this.#spec.project) return;
    if (error.code === 'ABORTED') return this.#stopBegun(step);
    await recordFailure(this.#env, entry, { step, error });
  }

  async #stopBegun(step: Step): Promise<void> {
    if (this.#begun === 'no' || this.#vm === null) return;
    const observed = await this.#env.hypervisor.observe(this.#vm.handle);
    if (observed.state === 'stopped') return;
    const graceMs = this.#begun === 'ready' ? INTERRUPTED_GRACE_MS : 0;
    const reporter = this.#env.events.reporter(this.run.name, step);
    reporter.status('interrupted: stopping it (interrupt again to leave at once)');
    // The command's own signal is aborted already; stopping has its own deadline.
    const context = { signal: new AbortController().signal, reporter: silentReporter };
    await this.#env.hypervisor.stop(observed, { graceMs }, context);
  }
}

/** The registry's entry of this VM, if there is one; `VM_FOREIGN` when the name belongs to another VMFile. */
async function ownEntry(registry: Registry, spec: VmSpec): Promise<RegistryEntry | null> {
  const entry = await registry.get(spec.name);
  if (entry === null || entry.project === spec.project) return entry;
  // Damaged files may have lost whose it is: that is told first.
  await registry.handle(entry);
  const owner = entry.project === null ? 'was created without a VMFile' : `belongs to ${entry.project}`;
  throw new VmctlError('VM_FOREIGN', `a VM "${spec.name}" exists already and ${owner}; this is ${spec.project}`, {
    hint: `Give one of them another name, or remove that VM with: vmctl destroy ${spec.name}`,
    fields: { vm: spec.name, project: spec.project, owner: entry.project },
  });
}

function noteChanges(nodes: readonly string[], name: string, context: StageContext): void {
  if (nodes.length === 0) return;
  const what = `${nodes.join(', ')} ${nodes.length === 1 ? 'has' : 'have'} changed in the VMFile`;
  context.reporter.log(`${what}; to apply that, run: vmctl down --destroy ${name} && vmctl up ${name}`);
}

function specSummary(spec: VmSpec): string {
  const image = spec.image.kind === 'file' ? spec.image.path : spec.image.url;
  return `${spec.vcpus} vCPU, ${spec.memoryMib} MiB, ${basename(image)}`;
}

/** `tcg, pid 4711, SSH on 127.0.0.1:40123` */
export function runningSummary(vm: RunningVm): string {
  const parts = [vm.accelerator === 'none' ? null : vm.accelerator, vm.pid === null ? null : `pid ${vm.pid}`];
  if (vm.ssh !== null) parts.push(`SSH on ${vm.ssh.host}:${vm.ssh.port}`);
  return parts.filter((part) => part !== null).join(', ');
}
