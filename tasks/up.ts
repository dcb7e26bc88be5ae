/** The up flow: one listr2 task per VM, all at the same time, with the five steps under each. */
import { basename } from 'node:path';
import type { ListrTask } from 'listr2';
import { VmctlError } from '../src/errors.js';
import { type StageContext, type Step, silentReporter } from '../src/model/event.js';
import type { UpAction } from '../src/model/plan.js';
import type { VmSpec } from '../src/model/spec.js';
import type { ObservedVm, ResolvedVm, RunningVm } from '../src/model/vm.js';
import type { RegistryEntry } from '../src/registry.js';
import { unlessAborted } from '../src/util/wait.js';
import { type TaskEnvironment, takePlace } from './context.js';
import { prepareVm } from './prepare.js';
import { recordFailure } from './record-failure.js';
import { provisionRecorded } from './provision.js';
import { type ReadyJob, awaitReady } from './ready.js';
import { resolveVm } from './resolve.js';
import { startVm } from './start.js';
import { awaitPowerOff, stopVm } from './stop.js';
import { type UpOutlook, outlook } from './up-facts.js';
import { changeText } from './up-plan.js';
import { tildePath } from './progress-text.js';
import { type StepResult, VmRun } from './vm-run.js';

export interface UpOptions {
  /** The VMs to bring up; whatever they depend on has to be among them. */
  readonly specs: readonly VmSpec[];
  /** False: stop before provisioning. */
  readonly provision: boolean;
  /** VMs that are made anew, also where they exist and are as declared. */
  readonly anew?: ReadonlySet<string>;
  /**
   * True: all VMs boot before any is provisioned, and `depends-on` orders the provisioning. Default false: a VM boots
   * when those that it depends on are up.
   */
  readonly bootFirst?: boolean;
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
  const { provision, bootFirst = false } = options;
  for (const spec of options.specs) {
    const anew = options.anew?.has(spec.name) ?? false;
    flows.set(spec.name, new UpFlow(env, { spec, provision, anew, bootFirst, flows }));
  }
  const runs = new Map([...flows].map(([name, flow]) => [name, flow.run]));
  return { tasks: [...flows.values()].map((flow) => flow.task()), runs };
}

interface FlowOptions {
  readonly spec: VmSpec;
  readonly provision: boolean;
  readonly anew: boolean;
  readonly bootFirst: boolean;
  readonly flows: ReadonlyMap<string, UpFlow>;
}

/** One VM's way up: what each step found or made, for the steps after it. */
class UpFlow {
  readonly run: VmRun;
  /**
   * Settles when nobody has to wait for its boot any more: it has booted, has failed, or is held by another process,
   * which may be waiting for one of ours.
   */
  readonly #booted: Promise<void>;
  #setBooted: () => void = () => {};
  #hasBooted = false;
  readonly #env: TaskEnvironment;
  readonly #spec: VmSpec;
  readonly #options: FlowOptions;
  #action: UpAction = 'create';
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
      outcome: () => (this.#action === 'none' ? 'unchanged' : 'done'),
      onFailure: (step, error) => this.#undo(step, error),
    });
    this.run.atEnd(() => this.#leaveBoots());
    this.#booted = new Promise((resolve) => {
      this.#setBooted = () => {
        this.#hasBooted = true;
        resolve();
      };
    });
    void this.run.ended.then(this.#setBooted);
  }

  task(): ListrTask {
    const { run } = this;
    const steps = [
      run.step('parse', async () => ({ done: specSummary(this.#spec) })),
      run.step('resolve', (context) => this.#resolve(context)),
      ...(this.#options.anew ? [run.step('destroy', (context) => this.#destroy(context))] : []),
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
    const { hypervisor, events } = this.#env;
    await this.run.lock(context, this.#setBooted);
    const found = await outlook(this.#env, this.#spec, this.#options.anew);
    this.#action = found.action;
    this.#entry = found.existing?.entry ?? null;
    this.#vm = found.existing?.observed ?? null;
    noteDifferences(found, this.#spec.name, context);
    if (this.#action === 'none') return { skipped: 'already running' };
    const isNew = this.#action === 'create' || this.#action === 'recreate';
    // What has a process already needs nothing of the host any more.
    if (!isNew && this.#action !== 'start') return { skipped: 'already there' };
    const made = isNew ? undefined : this.#vm?.handle;
    const aboutHost = { signal: context.signal, reporter: events.reporter(null, 'start') };
    await hypervisor.checkHostFor(made?.backend ?? hypervisor.kind, aboutHost, made?.spec ?? this.#spec);
    if (!isNew) return { skipped: 'already there' };
    this.#resolved = await resolveVm(this.#env, this.#spec, context);
    return { done: basename(this.#resolved.image.path) };
  }

  /** Only now, when everything for the new one is there. */
  async #destroy(context: StageContext): Promise<StepResult> {
    if (this.#vm === null) return { skipped: 'there is none yet' };
    await this.#env.hypervisor.destroy(this.#vm.handle, context);
    await this.#env.registry.remove(this.run.name);
    this.#vm = null;
    this.#entry = null;
    return { done: 'every file removed' };
  }

  async #prepare(context: StageContext): Promise<StepResult> {
    if (this.#resolved === null) return { skipped: this.#action === 'none' ? 'already running' : 'already there' };
    const handle = await prepareVm(this.#env, this.#resolved, context);
    this.#vm = { state: 'stopped', handle };
    this.#entry = await this.#env.registry.get(handle.name);
    return { done: tildePath(handle.directory, this.#env.home) };
  }

  async #start(context: StageContext): Promise<StepResult> {
    const vm = this.#vm;
    if (vm === null || this.#entry === null) throw new VmctlError('INTERNAL', 'Internal error: nothing was prepared');
    if (vm.state === 'running' && this.#action !== 'start') return { skipped: 'already running' };
    if (!this.#options.bootFirst) await this.#awaitDependencies(context);
    this.#leaveBoots = await this.#takeBootPlace(context);
    if (vm.state === 'suspended' && this.#action !== 'start') {
      // Not this run's to stop again: it may have run for days before it was paused.
      const resumed = await this.#env.hypervisor.resume(vm, context);
      this.#vm = resumed;
      return { done: ['resumed', runningSummary(resumed)].filter((part) => part !== '').join(', ') };
    }
    const stopped = vm.state === 'stopped' ? vm : await awaitPowerOff(this.#env, vm, context);
    this.#begun = 'booting';
    this.#vm = await startVm(this.#env, { stopped, entry: this.#entry }, context);
    return { done: runningSummary(this.#vm) };
  }

  async #provision(context: StageContext): Promise<StepResult> {
    const vm = this.#vm;
    if (vm === null || vm.state !== 'running' || this.#entry === null) {
      throw new VmctlError('INTERNAL', 'Internal error: nothing was started');
    }
    const job = { vm, entry: this.#entry, spec: this.#spec };
    if (this.#action === 'none') return this.#checkReady(job, context);
    if (!this.#options.provision) return { skipped: 'not asked for' };
    const { provisioning } = await this.#env.registry.record(job.entry);
    const runSteps = provisioning !== 'done';
    const onBooted = () => this.#onBooted(context);
    return { done: await provisionRecorded(this.#env, { ...job, runSteps, onBooted }, context) };
  }

  /** What runs is left alone, and yet it is up only when it is ready. */
  async #checkReady(job: Omit<ReadyJob, 'connection'>, context: StageContext): Promise<StepResult> {
    this.#setBooted();
    if (!this.#options.provision) return { skipped: 'already provisioned' };
    await awaitReady(this.#env, { ...job, connection: null }, context);
    if (job.spec.ready === null) return { skipped: 'already provisioned' };
    await this.#env.registry.updateRecord(job.entry, { lastFailure: null });
    return { done: 'already provisioned, ready' };
  }

  async #onBooted(context: StageContext): Promise<void> {
    if (this.#begun === 'booting') this.#begun = 'ready';
    this.#leaveBoots();
    this.#setBooted();
    if (!this.#options.bootFirst) return;
    await this.#awaitBoots(context);
    await this.#awaitDependencies(context);
  }

  /** Waits until nobody has to wait for the boot of any VM of this run. */
  async #awaitBoots({ reporter, signal }: StageContext): Promise<void> {
    const booting = new Set([...this.#options.flows.values()].filter((flow) => !flow.#hasBooted));
    const tell = () => {
      const names = [...booting].map(({ run }) => run.name).join(', ');
      if (names !== '' && !signal.aborted) reporter.status(`booted; waiting for ${names} to boot`);
    };
    tell();
    const boots = [...booting].map(async (flow) => {
      await flow.#booted;
      booting.delete(flow);
      tell();
    });
    await unlessAborted(Promise.all(boots), signal);
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
        `"${this.run.name}" was not ${this.#options.bootFirst ? 'provisioned' : 'started'}, because "${run.name}" failed${chain}`,
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
    await recordFailure(this.#env, entry, { step, error, staysProvisioned: this.#action === 'none' });
  }

  async #stopBegun(step: Step): Promise<void> {
    if (this.#begun === 'no' || this.#vm === null) return;
    const { handle } = this.#vm;
    if ((await this.#env.hypervisor.observe(handle)).state === 'stopped') return;
    const graceMs = this.#begun === 'ready' ? INTERRUPTED_GRACE_MS : 0;
    const reporter = this.#env.events.reporter(this.run.name, step);
    reporter.status('interrupted: stopping it (interrupt again to leave at once)');
    // The command's own signal is aborted already; stopping has its own deadline.
    const context = { signal: new AbortController().signal, reporter: silentReporter };
    await stopVm(this.#env, { handle, graceMs }, context);
  }
}

/** Says in which ways the VM is not as declared, and stays so. */
function noteDifferences(found: UpOutlook, name: string, context: StageContext): void {
  if (found.action === 'create' || found.action === 'recreate') return;
  for (const change of found.changes) {
    context.reporter.log(`${changeText(change)}; to apply that, run: vmctl reload ${name}`);
  }
  const edited = found.steps.filter(({ known }) => known !== 'same').map(({ number }) => number);
  if (found.action !== 'none' || edited.length === 0) return;
  const which = edited.length === 1 ? `step ${edited.join()} is` : `steps ${edited.join(', ')} are`;
  context.reporter.log(`provision ${which} new or changed; to run what is due, run: vmctl provision ${name}`);
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
