/** Who waits for whom when several VMs come up: for dependencies, for a place to boot, for the one that is frozen. */
import { VmctlError } from '../src/errors.js';
import type { StageContext } from '../src/model/event.js';
import type { VmSpec } from '../src/model/spec.js';
import { unlessAborted } from '../src/util/wait.js';
import { type Limits, takePlace } from './context.js';
import type { VmRun } from './vm-run.js';

/** The VMs that come up together. */
export interface Together {
  /** By name, in the order of the VMFile. */
  readonly peers: Map<string, Peer>;
  /** Who is to be frozen under a key, for the others that would be: the VMs of one group. */
  readonly freezers: Map<string, Peer>;
  readonly boots: Limits['boots'];
  /** All VMs boot before any is provisioned. */
  readonly bootFirst: boolean;
}

/** Something that others wait for, which happens once. */
class Milestone {
  readonly passed: Promise<void>;
  #hasPassed = false;
  #settle: () => void = () => {};

  constructor() {
    this.passed = new Promise((resolve) => {
      this.#settle = resolve;
    });
  }

  get hasPassed(): boolean {
    return this.#hasPassed;
  }

  pass(): void {
    this.#hasPassed = true;
    this.#settle();
  }
}

/** One VM among those that come up together: what the others wait for, and what it waits for of them. */
export class Peer {
  readonly run: VmRun;
  readonly isMadeAnew: boolean;
  /**
   * Passed when nobody has to wait for its boot any more: it has booted, has failed, or is held by another process,
   * which may be waiting for one of ours.
   */
  readonly boot = new Milestone();
  /** Passed when it is known whether this VM is to be frozen. */
  readonly choice = new Milestone();
  /** Passed when this VM was frozen, or will not be. */
  readonly freezing = new Milestone();
  readonly #together: Together;
  readonly #spec: VmSpec;
  #leaveBoots: () => void = () => {};

  /** Joins the others. */
  constructor(
    together: Together,
    { run, spec, anew }: { readonly run: VmRun; readonly spec: VmSpec; readonly anew: boolean },
  ) {
    this.run = run;
    this.isMadeAnew = anew;
    this.#together = together;
    this.#spec = spec;
    together.peers.set(spec.name, this);
    run.atEnd(() => this.leaveBoots());
    run.atEnd(() => this.freezing.pass());
    run.atEnd(() => this.choice.pass());
    void run.ended.then(() => this.boot.pass());
  }

  /** Waits for the VMs that this one needs, and for a place among the guests that boot. */
  async awaitTurn(context: StageContext): Promise<void> {
    const { boots, bootFirst } = this.#together;
    if (!bootFirst) await this.#awaitDependencies(context);
    const full = boots.pending >= boots.concurrency;
    if (full) {
      context.reporter.status('waiting for another guest to finish booting', { kind: 'waiting', on: 'boot-place' });
    }
    this.#leaveBoots = await takePlace(boots, context.signal);
    if (full || this.#spec.dependsOn.length > 0) context.reporter.status('starting');
  }

  /** Leaves its place among the guests that boot to another one. */
  leaveBoots(): void {
    this.#leaveBoots();
  }

  /** It has booted: tells that, and waits for what has to come before its provisioning. */
  async afterBoot(context: StageContext): Promise<void> {
    this.leaveBoots();
    this.boot.pass();
    if (!this.#together.bootFirst) return;
    await this.#awaitBoots(context);
    await this.#awaitDependencies(context);
  }

  /**
   * Where another VM is about to be frozen under the same key, waits for that and gives true. Where none is, this one is
   * it for the others from now on.
   */
  async awaitFreezer(key: string, { reporter, signal }: StageContext): Promise<boolean> {
    const { freezers } = this.#together;
    for (const sibling of this.#siblingsBefore()) await unlessAborted(sibling.choice.passed, signal);
    const first = freezers.get(key);
    if (first === undefined) {
      freezers.set(key, this);
      return false;
    }
    this.choice.pass();
    reporter.status(`waiting for ${first.run.name}, to start from it when it is frozen`);
    await unlessAborted(first.freezing.passed, signal);
    return true;
  }

  /** The VMs of its group that come before it: the first that can be frozen is. */
  #siblingsBefore(): readonly Peer[] {
    const all = [...this.#together.peers.values()];
    const { group } = this.#spec;
    return group === null
      ? []
      : all.slice(0, all.indexOf(this)).filter((peer) => peer.#spec.group?.name === group.name);
  }

  /** Waits until nobody has to wait for the boot of any of them. */
  async #awaitBoots({ reporter, signal }: StageContext): Promise<void> {
    const booting = new Set([...this.#together.peers.values()].filter(({ boot }) => !boot.hasPassed));
    const tell = () => {
      const vms = [...booting].map(({ run }) => run.name);
      if (vms.length === 0 || signal.aborted) return;
      reporter.status(`booted; waiting for ${vms.join(', ')} to boot`, { kind: 'waiting', on: 'vms', vms });
    };
    tell();
    const boots = [...booting].map(async (peer) => {
      await peer.boot.passed;
      booting.delete(peer);
      tell();
    });
    await unlessAborted(Promise.all(boots), signal);
  }

  /** Throws `DEPENDENCY_FAILED`, naming the chain, when a VM that this one needs did not come up. */
  async #awaitDependencies(context: StageContext): Promise<void> {
    const { peers, bootFirst } = this.#together;
    const needed = this.#spec.dependsOn.map((name) => peers.get(name)).filter((peer) => peer !== undefined);
    const vms = needed.map(({ run }) => run.name);
    if (vms.length > 0) context.reporter.status(`waiting for ${vms.join(', ')}`, { kind: 'waiting', on: 'vms', vms });
    for (const { run } of needed) {
      const outcome = await unlessAborted(run.ended, context.signal);
      if (outcome.result !== 'failed') continue;
      if (outcome.error.code === 'ABORTED') throw outcome.error;
      const chain = outcome.error.code === 'DEPENDENCY_FAILED' ? `: ${outcome.error.message}` : '';
      throw new VmctlError(
        'DEPENDENCY_FAILED',
        `"${this.run.name}" was not ${bootFirst ? 'provisioned' : 'started'}, because "${run.name}" failed${chain}`,
        {
          fields: { vm: this.run.name, dependency: run.name },
        },
      );
    }
  }
}
