/** How a VM that comes up starts from what is frozen for it, or is frozen for the ones after it. */
import { VmctlError, toVmctlError } from '../src/errors.js';
import type { StageContext } from '../src/model/event.js';
import type { VmSpec } from '../src/model/spec.js';
import type { BaseImage, RunningVm, StoppedVm, VmHandle } from '../src/model/vm.js';
import type { RegistryEntry } from '../src/registry.js';
import { isFull } from '../src/util/fs.js';
import type { TaskEnvironment } from './context.js';
import { isPortTaken } from './ports.js';
import type { Peer } from './up-order.js';
import { freezeVm } from './warm-freeze.js';
import { type UsableFrozen, type WarmFinding, clearBroken, lookUpWarm } from './warm-lookup.js';
import { prepareFrozenVm, restoreVm } from './warm-restore.js';

/** Before it has looked, nothing is frozen and nothing is to be. */
export class WarmStart {
  readonly #env: TaskEnvironment;
  readonly #spec: VmSpec;
  readonly #peer: Peer;
  #finding: WarmFinding | null = null;

  constructor(env: TaskEnvironment, spec: VmSpec, peer: Peer) {
    this.#env = env;
    this.#spec = spec;
    this.#peer = peer;
  }

  /** Where another VM of this run is about to be frozen under the same key, waits for that, and starts from it. */
  async look(image: BaseImage, context: StageContext): Promise<void> {
    let finding = await lookUpWarm(this.#env, this.#spec, image);
    if (!finding.hit && finding.key !== null && (await this.#peer.awaitFreezer(finding.key, context))) {
      finding = await lookUpWarm(this.#env, this.#spec, image);
    }
    this.#finding = finding;
    noteCold(finding, context);
  }

  /** It starts from what is frozen. */
  get hit(): boolean {
    return this.#finding?.hit === true;
  }

  /** What it is frozen under; null where it is not to be frozen either. */
  get key(): string | null {
    return this.#finding?.key ?? null;
  }

  /** What was found frozen for this VM. */
  get frozen(): UsableFrozen | null {
    const { key = null, manifest = null } = this.#finding ?? {};
    return key === null || manifest === null ? null : { key, manifest };
  }

  /** The files of the VM, made from what is frozen. Null where nothing is, or it cannot be used after all, which is told. */
  async prepare(context: StageContext): Promise<VmHandle | null> {
    const { frozen, key } = this;
    if (frozen === null || key === null) return null;
    try {
      return await prepareFrozenVm(this.#env, this.#spec, frozen, context);
    } catch (error) {
      if (context.signal.aborted || wouldFailCold(error)) throw error;
      this.#giveUp(error, context);
      if (error instanceof VmctlError && error.code === 'VM_DAMAGED') await clearBroken(this.#env, key);
      return null;
    }
  }

  /** Gives the VM when it goes on; null where it does not, which is told, and has to be made anew. */
  async restore(
    { key, manifest }: UsableFrozen,
    vm: { readonly stopped: StoppedVm; readonly entry: RegistryEntry },
    context: StageContext,
  ): Promise<RunningVm | null> {
    try {
      const { level, steps } = manifest;
      await this.#env.registry.updateRecord(vm.entry, { steps });
      return await restoreVm(this.#env, { ...vm, spec: this.#spec, key, level }, context);
    } catch (error) {
      if (context.signal.aborted || wouldFailCold(error)) throw error;
      this.#giveUp(error, context);
      return null;
    }
  }

  /**
   * Whether it is to be started so that its memory can be kept. Where there is no space for that, which is told, it is not
   * to be frozen at all.
   */
  async reserveMemory(vm: StoppedVm, context: StageContext): Promise<boolean> {
    const finding = this.#finding;
    if (finding === null || finding.key === null || finding.level !== 'memory') return false;
    const room = await this.#env.hypervisor.reserveMemory(vm, context);
    if (room.supported) return true;
    context.reporter.log(`it will not be frozen: ${room.reason}`);
    this.#finding = { ...finding, key: null };
    this.#peer.freezing.pass();
    return false;
  }

  /**
   * Freezes the VM where it is to be, and gives it as it runs then. Only what this run has made: what was done in an
   * older one by hand is in no key.
   */
  async freeze(vm: RunningVm, entry: RegistryEntry, context: StageContext): Promise<RunningVm> {
    const finding = this.#finding;
    if (finding === null || finding.key === null || finding.level === 'off') return vm;
    const { key, components, level } = finding;
    const running = await freezeVm(this.#env, { vm, entry, spec: this.#spec, key, components, level }, context);
    this.#peer.freezing.pass();
    return running;
  }

  #giveUp(error: unknown, context: StageContext): void {
    context.reporter.log(`starts cold: ${toVmctlError(error).message}`);
    if (this.#finding !== null) this.#finding = { ...this.#finding, hit: false, manifest: null };
  }
}

/** What is in the way of a VM that boots, too, and says nothing against what is frozen. */
function wouldFailCold(error: unknown): boolean {
  return isPortTaken(error) || isFull(error);
}

/** Why a VM that could start from a frozen one does not. */
function noteCold(finding: WarmFinding, context: StageContext): void {
  if (finding.hit) return;
  if (finding.level !== 'off') {
    context.reporter.log(`starts cold: ${finding.reason}`);
    if (finding.less !== null) context.reporter.log(`only its disk is frozen: ${finding.less}`);
  } else if (finding.reason !== 'off' && finding.reason !== 'asked for') {
    context.reporter.log(`it cannot be frozen: ${finding.reason}`);
  }
}
