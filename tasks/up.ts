/** The up flow: one listr2 task per VM, all at the same time, with the five steps under each. */
import { basename } from 'node:path';
import type { ListrTask } from 'listr2';
import { VmctlError, toVmctlError } from '../src/errors.js';
import { shownPlace } from '../src/image/source.js';
import { type StageContext, type Step, silentReporter } from '../src/model/event.js';
import type { UpAction } from '../src/model/plan.js';
import type { VmSpec } from '../src/model/spec.js';
import type { ObservedVm, ResolvedVm, RunningVm, StoppedVm, VmHandle } from '../src/model/vm.js';
import { hasStepsForEach } from '../src/provision/step-plan.js';
import type { RegistryEntry } from '../src/registry.js';
import { unlessAborted } from '../src/util/wait.js';
import { type TaskEnvironment, takePlace } from './context.js';
import { assertAddressIsFree } from './lan.js';
import { prepareVm } from './prepare.js';
import { recordFailure } from './record-failure.js';
import { provisionRecorded, refreshLan } from './provision.js';
import { type ReadyJob, awaitReady } from './ready.js';
import { resolveVm } from './resolve.js';
import { startVm } from './start.js';
import { awaitPowerOff, stopVm } from './stop.js';
import { type UpOutlook, outlook } from './up-facts.js';
import { changeText } from './up-plan.js';
import { tildePath } from './progress-text.js';
import { type StepResult, VmRun } from './vm-run.js';
import { freezeVm } from './warm-freeze.js';
import { type UsableFrozen, type WarmFinding, clearBroken, lookUpWarm } from './warm-lookup.js';
import { prepareFrozenVm, restoreVm } from './warm-restore.js';

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
  const freezers = new Map<string, UpFlow>();
  const { provision, bootFirst = false } = options;
  for (const spec of options.specs) {
    const anew = options.anew?.has(spec.name) ?? false;
    flows.set(spec.name, new UpFlow(env, { spec, provision, anew, bootFirst, flows, freezers }));
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
  /** Who is to be frozen under a key, for the others that would be: the VMs of one group. */
  readonly freezers: Map<string, UpFlow>;
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
  #warm: WarmFinding | null = null;
  #resolved: ResolvedVm | null = null;
  #vm: ObservedVm | null = null;
  /** What an interruption has to take back: this run has started the VM, and how far it is. */
  #begun: 'no' | 'booting' | 'ready' = 'no';
  #leaveBoots: () => void = () => {};
  /** Settles when this VM was frozen, or will not be. */
  readonly frozenOrNot: Promise<void>;
  #settleFrozen: () => void = () => {};
  /** Settles when it is known whether this VM is to be frozen. */
  readonly chosen: Promise<void>;
  #settleChosen: () => void = () => {};

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
    this.frozenOrNot = new Promise((resolve) => {
      this.#settleFrozen = resolve;
    });
    this.run.atEnd(() => this.#settleFrozen());
    this.chosen = new Promise((resolve) => {
      this.#settleChosen = resolve;
    });
    this.run.atEnd(() => this.#settleChosen());
    this.#booted = new Promise((resolve) => {
      this.#setBooted = () => {
        this.#hasBooted = true;
        resolve();
      };
    });
    void this.run.ended.then(this.#setBooted);
  }

  get isMadeAnew(): boolean {
    return this.#options.anew;
  }

  task(): ListrTask {
    const { run } = this;
    const steps = [
      run.step('parse', async () => ({ done: specSummary(this.#spec) })),
      run.step('resolve', (context) => this.#resolve(context).finally(() => this.#settleChosen())),
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
    await assertAddressIsFree(this.#env, this.#spec, (name) => this.#options.flows.get(name)?.isMadeAnew ?? false);
    this.#resolved = await resolveVm(this.#env, this.#spec, context);
    if (this.#options.provision) this.#warm = await this.#findWarm(this.#resolved, context);
    noteCold(this.#warm, context);
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
    const frozen = this.#frozen === null ? null : await this.#prepareFrozen(this.#frozen, context);
    const handle = frozen ?? (await prepareVm(this.#env, this.#resolved, context));
    this.#vm = { state: 'stopped', handle };
    this.#entry = await this.#env.registry.get(handle.name);
    return { done: tildePath(handle.directory, this.#env.home) };
  }

  /** What was found frozen for this VM. */
  get #frozen(): UsableFrozen | null {
    const { key = null, manifest = null } = this.#warm ?? {};
    return key === null || manifest === null ? null : { key, manifest };
  }

  /** Null where it cannot be used after all, which is told. */
  async #prepareFrozen(frozen: UsableFrozen, context: StageContext): Promise<VmHandle | null> {
    try {
      return await prepareFrozenVm(this.#env, this.#spec, frozen, context);
    } catch (error) {
      if (context.signal.aborted) throw error;
      this.#giveUpWarm(error, context);
      return null;
    }
  }

  #giveUpWarm(error: unknown, context: StageContext): void {
    context.reporter.log(`starts cold: ${toVmctlError(error).message}`);
    if (this.#warm !== null) this.#warm = { ...this.#warm, hit: false, manifest: null };
  }

  async #start(context: StageContext): Promise<StepResult> {
    const vm = this.#vm;
    if (vm === null || this.#entry === null) throw new VmctlError('INTERNAL', 'Internal error: nothing was prepared');
    if (vm.state === 'running' && this.#action !== 'start') return { skipped: 'already running' };
    await this.#awaitTurn(context);
    if (vm.state === 'suspended' && this.#action !== 'start') {
      // Not this run's to stop again: it may have run for days before it was paused.
      const resumed = await this.#env.hypervisor.resume(vm, context);
      this.#vm = resumed;
      return { done: ['resumed', runningSummary(resumed)].filter((part) => part !== '').join(', ') };
    }
    const stopped = vm.state === 'stopped' ? vm : await awaitPowerOff(this.#env, vm, context);
    this.#begun = 'booting';
    const restored = this.#frozen === null ? null : await this.#restore(this.#frozen, context);
    this.#vm = restored ?? (await this.#boot(stopped, context));
    return { done: `${runningSummary(this.#vm)}${restored === null ? '' : ', from what was frozen'}` };
  }

  /** Gives the VM when it goes on; null where it does not, and was made anew, to be booted. */
  async #restore({ key, manifest }: UsableFrozen, context: StageContext): Promise<RunningVm | null> {
    const [env, entry, vm] = [this.#env, this.#entry, this.#vm];
    if (vm === null || entry === null) return null;
    try {
      const { level, steps } = manifest;
      await env.registry.updateRecord(entry, { steps });
      const stopped = { state: 'stopped', handle: vm.handle } as const;
      const running = await restoreVm(env, { stopped, entry, spec: this.#spec, key, level }, context);
      this.#leaveBoots();
      return running;
    } catch (error) {
      if (context.signal.aborted || isPortTaken(error)) throw error;
      this.#giveUpWarm(error, context);
      await this.#destroy(context);
      await clearBroken(env, key);
      await this.#prepare(context);
      return null;
    }
  }

  async #boot(stopped: StoppedVm, context: StageContext): Promise<RunningVm> {
    if (this.#entry === null) throw new VmctlError('INTERNAL', 'Internal error: nothing was prepared');
    const vm: StoppedVm = { ...stopped, handle: this.#vm?.handle ?? stopped.handle };
    const freezable = await this.#reserveMemory(vm, context);
    return startVm(this.#env, { stopped: vm, entry: this.#entry, freezable }, context);
  }

  /** Whether its memory can be frozen; where there is no space for that, nothing is, which is told. */
  async #reserveMemory(vm: StoppedVm, context: StageContext): Promise<boolean> {
    const warm = this.#warm;
    if (warm === null || warm.key === null || warm.level !== 'memory') return false;
    const room = await this.#env.hypervisor.reserveMemory(vm, context);
    if (room.supported) return true;
    context.reporter.log(`it will not be frozen: ${room.reason}`);
    this.#warm = { ...warm, key: null };
    this.#settleFrozen();
    return false;
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
    if (this.#warm?.hit === true && !runSteps) {
      await this.#onBooted(context);
      await awaitReady(this.#env, { ...job, connection: null }, context);
      return { skipped: 'was done before it was frozen' };
    }
    if (this.#warm?.hit === true) {
      return { done: await provisionRecorded(this.#env, { ...whole, phase: 'each' }, context) };
    }
    if (this.#warm === null || this.#warm.key === null || !hasStepsForEach(this.#spec)) {
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
    this.#setBooted();
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
      const vms = [...booting].map(({ run }) => run.name);
      if (vms.length === 0 || signal.aborted) return;
      reporter.status(`booted; waiting for ${vms.join(', ')} to boot`, { kind: 'waiting', on: 'vms', vms });
    };
    tell();
    const boots = [...booting].map(async (flow) => {
      await flow.#booted;
      booting.delete(flow);
      tell();
    });
    await unlessAborted(Promise.all(boots), signal);
  }

  /** Only what this run has made: what was done in an older one by hand is in no key. */
  async #freeze(vm: RunningVm, entry: RegistryEntry, context: StageContext): Promise<RunningVm> {
    const warm = this.#warm;
    if (warm === null || warm.key === null || warm.level === 'off') return vm;
    const { key, components, level } = warm;
    const running = await freezeVm(this.#env, { vm, entry, spec: this.#spec, key, components, level }, context);
    this.#vm = running;
    this.#settleFrozen();
    return running;
  }

  /** The VMs of its group that come before it: the first that can be frozen is. */
  #siblingsBefore(): readonly UpFlow[] {
    const all = [...this.#options.flows.values()];
    const { group } = this.#spec;
    return group === null
      ? []
      : all.slice(0, all.indexOf(this)).filter((flow) => flow.#spec.group?.name === group.name);
  }

  /** Where another VM of this run is about to be frozen under the same key, waits for that, and starts from it. */
  async #findWarm(resolved: ResolvedVm, context: StageContext): Promise<WarmFinding> {
    const found = await lookUpWarm(this.#env, this.#spec, resolved.image);
    if (found.hit || found.key === null) return found;
    const { freezers } = this.#options;
    for (const sibling of this.#siblingsBefore()) await unlessAborted(sibling.chosen, context.signal);
    const first = freezers.get(found.key);
    if (first === undefined) {
      freezers.set(found.key, this);
      return found;
    }
    this.#settleChosen();
    context.reporter.status(`waiting for ${first.run.name}, to start from it when it is frozen`);
    await unlessAborted(first.frozenOrNot, context.signal);
    return lookUpWarm(this.#env, this.#spec, resolved.image);
  }

  /** Waits for the VMs that this one needs, and for a place among the guests that boot. */
  async #awaitTurn(context: StageContext): Promise<void> {
    const { boots } = this.#env.limits;
    if (!this.#options.bootFirst) await this.#awaitDependencies(context);
    const full = boots.pending >= boots.concurrency;
    if (full) {
      context.reporter.status('waiting for another guest to finish booting', { kind: 'waiting', on: 'boot-place' });
    }
    this.#leaveBoots = await takePlace(boots, context.signal);
    if (full || this.#spec.dependsOn.length > 0) context.reporter.status('starting');
  }

  /** Throws `DEPENDENCY_FAILED`, naming the chain, when a VM that this one needs did not come up. */
  async #awaitDependencies(context: StageContext): Promise<void> {
    const flows = this.#spec.dependsOn
      .map((name) => this.#options.flows.get(name))
      .filter((flow) => flow !== undefined);
    const vms = flows.map(({ run }) => run.name);
    if (vms.length > 0) context.reporter.status(`waiting for ${vms.join(', ')}`, { kind: 'waiting', on: 'vms', vms });
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

/** A cold one would not start either. */
function isPortTaken(error: unknown): boolean {
  return error instanceof VmctlError && error.message.includes('Could not set up host forwarding rule');
}

/** Why a VM that could start from a frozen one does not. */
function noteCold(warm: WarmFinding | null, context: StageContext): void {
  if (warm === null || warm.hit) return;
  if (warm.level !== 'off') context.reporter.log(`starts cold: ${warm.reason}`);
  else if (warm.reason !== 'off' && warm.reason !== 'asked for') {
    context.reporter.log(`it cannot be frozen: ${warm.reason}`);
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
  const image = spec.image.kind === 'file' ? spec.image.path : shownPlace(spec.image.url);
  return `${spec.vcpus} vCPU, ${spec.memoryMib} MiB, ${basename(image)}`;
}

/** `tcg, pid 4711, SSH on 127.0.0.1:40123` */
export function runningSummary(vm: RunningVm): string {
  const parts = [vm.accelerator === 'none' ? null : vm.accelerator, vm.pid === null ? null : `pid ${vm.pid}`];
  if (vm.ssh !== null) parts.push(`SSH on ${vm.ssh.host}:${vm.ssh.port}`);
  return parts.filter((part) => part !== null).join(', ');
}
