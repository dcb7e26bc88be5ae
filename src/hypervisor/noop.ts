/**
 * A backend without guests: every legal transition, the same refusals, and files in the state directory, but no
 * process, disk or network. The command line and the task graph are tested on it, and a user can try a VMFile with it.
 */
import { randomUUID } from 'node:crypto';
import { rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { VmctlError } from '../errors.js';
import type { StageContext } from '../model/event.js';
import type { VmSpec } from '../model/spec.js';
import {
  NICS,
  type Nic,
  type ObservedVm,
  type ResolvedVm,
  type RunningVm,
  type StoppedVm,
  type SuspendedVm,
  type Transition,
  type VmHandle,
  type VmState,
  assertTransition,
} from '../model/vm.js';
import { VM_FILES } from '../paths.js';
import { exists, readTextIfPresent, writeFileAtomically } from '../util/fs.js';
import { throwIfAborted } from '../util/wait.js';
import {
  type BackendFacts,
  type Capabilities,
  type Capability,
  type ConsoleEndpoint,
  FROZEN_FILES,
  type Hypervisor,
  type LinkChange,
  type PrepareOptions,
  type SavedState,
  type StartMode,
  type StopMethod,
  type VmRemains,
  type WorkProcess,
  noScreen,
} from './hypervisor.js';
import { checkBaseImage } from './base-image.js';
import { frozenImage, keepCompanions, macOfCopy, recordBranch, takeCompanions } from './frozen.js';
import { buildWorkDirectory, removeWorkDirectory, stableMac, writeGuestAccess } from './work-directory.js';

export interface NoopOptions {
  /** Called before each change with the VM's name; a test waits or throws in it. */
  readonly before?: (operation: NoopOperation, name: string, signal: AbortSignal) => Promise<void>;
  /** Whether there is space to keep the memory of this VM; default always. */
  readonly memoryRoom?: (name: string) => Capability;
}

export type NoopOperation = 'prepare' | 'save' | 'freeze' | 'destroy' | Transition;

const SUPPORTED = { supported: true } as const;
const NO_GUEST = { supported: false, reason: 'the Noop backend has no guests' } as const;

export class NoopBackend implements Hypervisor {
  readonly kind = 'noop';
  readonly capabilities: Capabilities = {
    guestAccess: NO_GUEST,
    suspend: SUPPORTED,
    crash: SUPPORTED,
    reset: SUPPORTED,
    links: SUPPORTED,
    console: NO_GUEST,
    screenshot: NO_GUEST,
    memorySnapshots: SUPPORTED,
    networks: { user: SUPPORTED, tap: SUPPORTED, vnic: SUPPORTED, none: SUPPORTED },
  };
  readonly #before: NonNullable<NoopOptions['before']>;
  readonly #memoryRoom: NonNullable<NoopOptions['memoryRoom']>;

  constructor(options: NoopOptions = {}) {
    this.#before = options.before ?? (async () => {});
    this.#memoryRoom = options.memoryRoom ?? (() => SUPPORTED);
  }

  async checkHost(): Promise<void> {}

  async checkNetwork(): Promise<void> {}

  async prepare(vm: ResolvedVm, options: PrepareOptions, context: StageContext): Promise<VmHandle> {
    const { spec, image } = vm;
    return buildWorkDirectory(options, async (directory) => {
      await this.#enter('prepare', spec.name, context);
      await writeGuestAccess(directory, vm);
      return {
        name: spec.name,
        backend: 'noop',
        directory: options.directory,
        uuid: randomUUID(),
        mac: spec.network.kind === 'none' ? null : stableMac(spec.project, spec.name),
        spec,
        image,
        createdAt: new Date().toISOString(),
      };
    });
  }

  async start(vm: StoppedVm, context: StageContext, mode: StartMode = { kind: 'boot' }): Promise<RunningVm> {
    if (mode.kind === 'restore') await checkSaved(vm.handle, mode.saved);
    await this.#change(vm.handle, 'start', 'running', context);
    const unplugged = mode.kind === 'restore' ? (mode.unplugged ?? []) : [];
    if (unplugged.length > 0) await writeMemory(vm.handle, 'running', unplugged);
    return { state: 'running', ...live(vm.handle, unplugged) };
  }

  async reserveMemory({ handle }: StoppedVm): Promise<Capability> {
    const room = this.#memoryRoom(handle.name);
    if (room.supported) await writeFileAtomically(join(handle.directory, VM_FILES.memory), MEMORY);
    return room;
  }

  async stop(vm: RunningVm | SuspendedVm, _options: unknown, context: StageContext): Promise<StopMethod> {
    await this.#change(vm.handle, 'stop', 'stopped', context);
    return 'guest';
  }

  async suspend(vm: RunningVm, context: StageContext): Promise<SuspendedVm> {
    await this.#change(vm.handle, 'suspend', 'suspended', context);
    return { state: 'suspended', pausedBy: 'request', ...live(vm.handle, await readUnplugged(vm.handle)) };
  }

  async resume(vm: SuspendedVm, context: StageContext): Promise<RunningVm> {
    await this.#change(vm.handle, 'resume', 'running', context);
    return { state: 'running', ...live(vm.handle, await readUnplugged(vm.handle)) };
  }

  async crash({ handle }: RunningVm | SuspendedVm, context: StageContext): Promise<void> {
    await this.#change(handle, 'crash', 'stopped', context);
  }

  async reset({ handle }: RunningVm, context: StageContext): Promise<void> {
    await this.#change(handle, 'reset', 'running', context);
  }

  async setLink({ handle }: RunningVm | SuspendedVm, { nic, up }: LinkChange, context: StageContext): Promise<void> {
    const state = await readState(handle);
    const before = await readUnplugged(handle);
    await this.#change(handle, up ? 'connect' : 'disconnect', state, context);
    await writeMemory(
      handle,
      state,
      NICS.filter((one) => (one === nic ? !up : before.includes(one))),
    );
  }

  async save(vm: RunningVm | SuspendedVm, path: string, context: StageContext): Promise<SuspendedVm> {
    const { handle } = vm;
    await this.#enter('save', handle.name, context);
    if ((await readState(handle)) !== 'suspended') await this.#change(handle, 'suspend', 'suspended', context);
    await writeFileAtomically(path, STATE);
    return { state: 'suspended', pausedBy: 'request', ...live(handle) };
  }

  async freeze({ handle }: ObservedVm, folder: string, context: StageContext): Promise<StoppedVm> {
    await this.#enter('freeze', handle.name, context);
    await writeFileAtomically(join(folder, FROZEN_FILES.disk), 'a disk\n');
    if ((await readState(handle)) !== 'stopped') {
      const memory = join(handle.directory, VM_FILES.memory);
      if (await exists(memory)) await rename(memory, join(folder, FROZEN_FILES.memory));
      await writeFileAtomically(join(folder, FROZEN_FILES.state), STATE);
      await this.#change(handle, 'stop', 'stopped', context);
    }
    await keepCompanions(handle, folder);
    return { state: 'stopped', handle };
  }

  async prepareFrozen(spec: VmSpec, folder: string, options: PrepareOptions, context: StageContext): Promise<VmHandle> {
    const mac = await macOfCopy(spec, folder);
    const image = await frozenImage(folder);
    const { name } = spec;
    return buildWorkDirectory(options, async (directory) => {
      await this.#enter('prepare', name, context);
      await takeCompanions(folder, directory, name);
      const createdAt = new Date().toISOString();
      return { name, backend: 'noop', directory: options.directory, uuid: randomUUID(), mac, spec, image, createdAt };
    });
  }

  async branch({ handle }: StoppedVm, folder: string): Promise<StoppedVm> {
    assertTransition(handle.name, await readState(handle), 'start');
    return { state: 'stopped', handle: await recordBranch(handle, await frozenImage(folder)) };
  }

  async stateFacts(): Promise<Readonly<Record<string, string>>> {
    return {};
  }

  async destroy(handle: VmHandle, context: StageContext): Promise<void> {
    await this.#enter('destroy', handle.name, context);
    await removeWorkDirectory(handle.directory);
  }

  async discard(remains: VmRemains): Promise<void> {
    await removeWorkDirectory(remains.directory);
  }

  async observe(handle: VmHandle): Promise<ObservedVm> {
    const state = await readState(handle);
    if (state === 'stopped') return { state, handle };
    const rest = live(handle, await readUnplugged(handle));
    return state === 'running' ? { state, ...rest } : { state, pausedBy: 'request', ...rest };
  }

  checkDisk(handle: VmHandle): Promise<void> {
    return checkBaseImage(handle);
  }

  console(): ConsoleEndpoint {
    return { kind: 'none' };
  }

  guestPort(): null {
    return null;
  }

  async forwardTaken(): Promise<boolean> {
    return false;
  }

  async catchUpConsole(): Promise<boolean> {
    return true;
  }

  async screenshot({ handle }: RunningVm | SuspendedVm): Promise<Uint8Array> {
    throw noScreen(handle.name, NO_GUEST.reason);
  }

  async examineHost(): Promise<BackendFacts> {
    return { program: null, accelerator: null, firmware: null };
  }

  async findProcesses(): Promise<readonly WorkProcess[]> {
    return [];
  }

  async killProcess(): Promise<void> {}

  async #change(handle: VmHandle, transition: Transition, to: VmState, context: StageContext): Promise<void> {
    assertTransition(handle.name, await readState(handle), transition);
    await this.#enter(transition, handle.name, context);
    // Stopping writes nothing, as with the other backends: it has to work on a full disk.
    if (to === 'stopped') await rm(join(handle.directory, VM_FILES.runtime), { force: true });
    else await writeMemory(handle, to, transition === 'start' ? [] : await readUnplugged(handle));
  }

  async #enter(operation: NoopOperation, name: string, context: StageContext): Promise<void> {
    throwIfAborted(context.signal);
    await this.#before(operation, name, context.signal);
  }
}

/** What stands for a guest's memory and a machine's state, where there are none. */
const MEMORY = 'a memory\n';
const STATE = 'a state\n';

async function checkSaved({ name }: VmHandle, { state, memory }: SavedState): Promise<void> {
  const whole = (await readTextIfPresent(state)) === STATE;
  if (whole && (memory === null || (await readTextIfPresent(memory)) === MEMORY)) return;
  throw new VmctlError('QEMU_START', `VM "${name}" did not start: its saved state could not be loaded`, {
    fields: { vm: name },
  });
}

function live(handle: VmHandle, unplugged: readonly Nic[] = []): Omit<RunningVm, 'state'> {
  return { handle, pid: null, ssh: null, forwards: [], accelerator: 'none', unplugged };
}

/** What is remembered of a VM that does not stand still: a word for its state, and one for each cable that is out. */
async function writeMemory(handle: VmHandle, state: VmState, unplugged: readonly Nic[]): Promise<void> {
  await writeFileAtomically(join(handle.directory, VM_FILES.runtime), `${[state, ...unplugged].join(' ')}\n`);
}

async function readMemory(handle: VmHandle): Promise<readonly string[]> {
  const text = await readTextIfPresent(join(handle.directory, VM_FILES.runtime));
  return (text ?? '').trim().split(' ');
}

async function readState(handle: VmHandle): Promise<VmState> {
  const [state] = await readMemory(handle);
  return state === 'running' || state === 'suspended' ? state : 'stopped';
}

async function readUnplugged(handle: VmHandle): Promise<readonly Nic[]> {
  const words = await readMemory(handle);
  return NICS.filter((nic) => words.includes(nic));
}
