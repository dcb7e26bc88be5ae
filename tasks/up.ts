/** The up flow: one listr2 task per VM, all at the same time, with the five steps under each. */
import { basename } from 'node:path';
import type { ListrTask } from 'listr2';
import { VmctlError } from '../src/errors.js';
import { shownPlace } from '../src/image/source.js';
import { type StageContext, type Step, silentReporter } from '../src/model/event.js';
import type { UpAction } from '../src/model/plan.js';
import type { VmSpec } from '../src/model/spec.js';
import type { ObservedVm, ResolvedVm, RunningVm, StoppedVm } from '../src/model/vm.js';
import { hasStepsForEach } from '../src/provision/step-plan.js';
import type { RegistryEntry } from '../src/registry.js';
import type { TaskEnvironment } from './context.js';
import { assertAddressIsFree } from './lan.js';
import { prepareVm } from './prepare.js';
import { recordFailure } from './record-failure.js';
import { provisionRecorded, refreshLan } from './provision.js';
import { type ReadyJob, awaitReady } from './ready.js';
import { resolveVm } from './resolve.js';
import { startVm } from './start.js';
import { awaitPowerOff, stopVm } from './stop.js';
import { noteDifferences, outlook } from './up-facts.js';
import { Peer, type Together } from './up-order.js';
import { WarmStart } from './up-warm.js';
import { tildePath } from './progress-text.js';
import { type StepResult, VmRun } from './vm-run.js';
import { clearBroken } from './warm-lookup.js';

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
  const { specs, provision, bootFirst = false } = options;
  const together: Together = { peers: new Map(), freezers: new Map(), boots: env.limits.boots, bootFirst };
  const flows = specs.map((spec) => {
    const anew = options.anew?.has(spec.name) ?? false;
    return new UpFlow(env, { spec, provision, anew, together });
  });
  return { tasks: flows.map((flow) => flow.task()), runs: new Map(flows.map(({ run }) => [run.name, run])) };
}

interface FlowOptions {
  readonly spec: VmSpec;
  readonly provision: boolean;
  readonly anew: boolean;
  readonly together: Together;
}

/** One VM's way up: what each step found or made, for the steps after it. */
class UpFlow {
  readonly run: VmRun;
  readonly #env: TaskEnvironment;
  readonly #spec: VmSpec;
  readonly #options: FlowOptions;
  readonly #peer: Peer;
  readonly #warm: WarmStart;
  #action: UpAction = 'create';
  #entry: RegistryEntry | null = null;
  #resolved: ResolvedVm | null = null;
  #vm: ObservedVm | null = null;
  /** What an interruption has to take back: this run has started the VM, and how far it is. */
  #begun: 'no' | 'booting' | 'ready' = 'no';

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
    this.#peer = new Peer(options.together, { run: this.run, spec: options.spec, anew: options.anew });
    this.#warm = new WarmStart(env, options.spec, this.#peer);
  }

  task(): ListrTask {
    const { run } = this;
    const steps = [
      run.step('parse', async () => ({ done: specSummary(this.#spec) })),
      run.step('resolve', (context) => this.#resolve(context).finally(() => this.#peer.choice.pass())),
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
    await this.run.lock(context, () => this.#peer.boot.pass());
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
    await assertAddressIsFree(
      this.#env,
      this.#spec,
      (name) => this.#options.together.peers.get(name)?.isMadeAnew ?? false,
    );
    this.#resolved = await resolveVm(this.#env, this.#spec, context);
    if (this.#options.provision) await this.#warm.look(this.#resolved.image, context);
    if (this.#action === 'recreate' && !this.#options.anew) await this.#destroy(context);
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
    const handle = (await this.#warm.prepare(context)) ?? (await prepareVm(this.#env, this.#resolved, context));
    this.#vm = { state: 'stopped', handle };
    this.#entry = await this.#env.registry.get(handle.name);
    return { done: tildePath(handle.directory, this.#env.home) };
  }

  async #start(context: StageContext): Promise<StepResult> {
    const vm = this.#vm;
    if (vm === null || this.#entry === null) throw new VmctlError('INTERNAL', 'Internal error: nothing was prepared');
    if (vm.state === 'running' && this.#action !== 'start') return { skipped: 'already running' };
    await this.#peer.awaitTurn(context);
    if (vm.state === 'suspended' && this.#action !== 'start') {
      // Not this run's to stop again: it may have run for days before it was paused.
      const resumed = await this.#env.hypervisor.resume(vm, context);
      this.#vm = resumed;
      return { done: ['resumed', runningSummary(resumed)].filter((part) => part !== '').join(', ') };
    }
    const stopped = vm.state === 'stopped' ? vm : await awaitPowerOff(this.#env, vm, context);
    this.#begun = 'booting';
    const restored = await this.#restore(context);
    this.#vm = restored ?? (await this.#boot(stopped, context));
    return { done: `${runningSummary(this.#vm)}${restored === null ? '' : ', from what was frozen'}` };
  }

  /** Gives the VM when it goes on from what is frozen; null where it does not, and is there to be booted. */
  async #restore(context: StageContext): Promise<RunningVm | null> {
    const [entry, vm, { frozen }] = [this.#entry, this.#vm, this.#warm];
    if (frozen === null || vm === null || entry === null) return null;
    const stopped = { state: 'stopped', handle: vm.handle } as const;
    const running = await this.#warm.restore(frozen, { stopped, entry }, context);
    if (running !== null) {
      this.#peer.leaveBoots();
      return running;
    }
    await this.#destroy(context);
    await clearBroken(this.#env, frozen.key);
    await this.#prepare(context);
    return null;
  }

  async #boot(stopped: StoppedVm, context: StageContext): Promise<RunningVm> {
    if (this.#entry === null) throw new VmctlError('INTERNAL', 'Internal error: nothing was prepared');
    const vm: StoppedVm = { ...stopped, handle: this.#vm?.handle ?? stopped.handle };
    const freezable = await this.#warm.reserveMemory(vm, context);
    return startVm(this.#env, { stopped: vm, entry: this.#entry, freezable }, context);
  }

  async #provision(context: StageContext): Promise<StepResult> {
    const vm = this.#vm;
    if (vm === null || vm.state !== 'running' || this.#entry === null) {
      throw new VmctlError('INTERNAL', 'Internal error: nothing was started');
    }
    const job = { vm, entry: this.#entry, spec: this.#spec };
    if (this.#action === 'none') return this.#lookAgain(job, context);
    if (!this.#options.provision) return { skipped: 'not asked for' };
    const { provisioning } = await this.#env.registry.record(job.entry);
    const runSteps = provisioning !== 'done';
    const whole = { ...job, runSteps, onBooted: () => this.#onBooted(context) };
    if (this.#warm.hit && !runSteps) {
      await this.#onBooted(context);
      await awaitReady(this.#env, { ...job, connection: null }, context);
      return { skipped: 'was done before it was frozen' };
    }
    if (this.#warm.hit) {
      return { done: await provisionRecorded(this.#env, { ...whole, phase: 'each' }, context) };
    }
    if (this.#warm.key === null || !hasStepsForEach(this.#spec)) {
      const done = await provisionRecorded(this.#env, whole, context);
      const running = await this.#freeze(vm, job.entry, context);
      // It was suspended for that, or has booted once more.
      if (running !== vm) await awaitReady(this.#env, { ...job, vm: running, connection: null }, context);
      return { done };
    }
    const common = await provisionRecorded(this.#env, { ...whole, phase: 'common' }, context);
    const frozen = await this.#freeze(vm, job.entry, context);
    const each = await provisionRecorded(this.#env, { ...whole, vm: frozen, phase: 'each' }, context);
    return { done: `${common} for all, ${each} for each` };
  }

  /** What runs is left alone, and yet it is up only when it is ready. */
  async #lookAgain(job: Omit<ReadyJob, 'connection'>, context: StageContext): Promise<StepResult> {
    this.#peer.boot.pass();
    if (!this.#options.provision) return { skipped: 'already provisioned' };
    const isNews = await refreshLan(this.#env, job, context);
    await awaitReady(this.#env, { ...job, connection: null }, context);
    if (job.spec.ready !== null) await this.#env.registry.updateRecord(job.entry, { lastFailure: null });
    const ready = job.spec.ready === null ? '' : ', ready';
    if (isNews) return { done: `told who is on its LAN now${ready}` };
    return ready === '' ? { skipped: 'already provisioned' } : { done: `already provisioned${ready}` };
  }

  async #onBooted(context: StageContext): Promise<void> {
    if (this.#begun === 'booting') this.#begun = 'ready';
    await this.#peer.afterBoot(context);
  }

  async #freeze(vm: RunningVm, entry: RegistryEntry, context: StageContext): Promise<RunningVm> {
    const running = await this.#warm.freeze(vm, entry, context);
    this.#vm = running;
    return running;
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

function specSummary(spec: VmSpec): string {
  const image = spec.image.kind === 'file' ? spec.image.path : shownPlace(spec.image.url);
  return `${spec.vcpus} vCPU, ${spec.memoryMib} MiB, ${basename(image)}`;
}

/** `tcg, pid 4711, SSH on 127.0.0.1:40123` */
export function runningSummary(vm: RunningVm): string {
  const parts = [vm.accelerator === 'none' ? null : vm.accelerator, vm.pid === null ? null : `pid ${vm.pid}`];
  if (vm.ssh !== null) parts.push(`SSH on ${vm.ssh.host}:${vm.ssh.port}`);
  return parts.filter((part) => part !== null).join(', ');
}
