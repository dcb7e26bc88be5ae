/**
 * A backend without guests: every legal transition, the same refusals, and files in the state directory, but no
 * process, disk or network. The command line and the task graph are tested on it, and a user can try a VMFile with it.
 */
import { randomUUID } from 'node:crypto';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { StageContext } from '../model/event.js';
import {
  type ObservedVm,
  type ResolvedVm,
  type RunningVm,
  type StoppedVm,
  type SuspendedVm,
  type VmHandle,
  type VmState,
  assertTransition,
} from '../model/vm.js';
import { VM_FILES } from '../paths.js';
import { readTextIfPresent, writeFileAtomically } from '../util/fs.js';
import { throwIfAborted } from '../util/wait.js';
import {
  type BackendFacts,
  type Capabilities,
  type ConsoleEndpoint,
  type Hypervisor,
  type PrepareOptions,
  type StopMethod,
  type VmRemains,
  type WorkProcess,
  noScreen,
} from './hypervisor.js';
import { checkBaseImage } from './base-image.js';
import { buildWorkDirectory, removeWorkDirectory, stableMac, writeGuestAccess } from './work-directory.js';

export interface NoopOptions {
  /** Called before each change with the VM's name; a test waits or throws in it. */
  readonly before?: (operation: NoopOperation, name: string, signal: AbortSignal) => Promise<void>;
}

export type NoopOperation = 'prepare' | 'start' | 'stop' | 'suspend' | 'resume' | 'destroy';

const SUPPORTED = { supported: true } as const;
const NO_GUEST = { supported: false, reason: 'the Noop backend has no guests' } as const;

export class NoopBackend implements Hypervisor {
  readonly kind = 'noop';
  readonly capabilities: Capabilities = {
    guestAccess: NO_GUEST,
    suspend: SUPPORTED,
    console: NO_GUEST,
    consoleLog: NO_GUEST,
    screenshot: NO_GUEST,
    networks: { user: SUPPORTED, tap: SUPPORTED, vnic: SUPPORTED, none: SUPPORTED },
  };
  readonly #before: NonNullable<NoopOptions['before']>;

  constructor(options: NoopOptions = {}) {
    this.#before = options.before ?? (async () => {});
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

  async start(vm: StoppedVm, context: StageContext): Promise<RunningVm> {
    await this.#change(vm.handle, 'start', 'running', context);
    return { state: 'running', ...live(vm.handle) };
  }

  async stop(vm: RunningVm | SuspendedVm, _options: unknown, context: StageContext): Promise<StopMethod> {
    await this.#change(vm.handle, 'stop', 'stopped', context);
    return 'guest';
  }

  async suspend(vm: RunningVm, context: StageContext): Promise<SuspendedVm> {
    await this.#change(vm.handle, 'suspend', 'suspended', context);
    return { state: 'suspended', pausedBy: 'request', ...live(vm.handle) };
  }

  async resume(vm: SuspendedVm, context: StageContext): Promise<RunningVm> {
    await this.#change(vm.handle, 'resume', 'running', context);
    return { state: 'running', ...live(vm.handle) };
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
    return state === 'running' ? { state, ...live(handle) } : { state, pausedBy: 'request', ...live(handle) };
  }

  checkDisk(handle: VmHandle): Promise<void> {
    return checkBaseImage(handle);
  }

  console(): ConsoleEndpoint {
    return { kind: 'none' };
  }

  async forwardTaken(): Promise<boolean> {
    return false;
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

  async #change(
    handle: VmHandle,
    transition: 'start' | 'stop' | 'suspend' | 'resume',
    to: VmState,
    context: StageContext,
  ): Promise<void> {
    assertTransition(handle.name, await readState(handle), transition);
    await this.#enter(transition, handle.name, context);
    const path = join(handle.directory, VM_FILES.runtime);
    // Stopping writes nothing, as with the other backends: it has to work on a full disk.
    if (to === 'stopped') await rm(path, { force: true });
    else await writeFileAtomically(path, `${to}\n`);
  }

  async #enter(operation: NoopOperation, name: string, context: StageContext): Promise<void> {
    throwIfAborted(context.signal);
    await this.#before(operation, name, context.signal);
  }
}

function live(handle: VmHandle): Omit<RunningVm, 'state'> {
  return { handle, pid: null, ssh: null, forwards: [], accelerator: 'none' };
}

async function readState(handle: VmHandle): Promise<VmState> {
  const text = (await readTextIfPresent(join(handle.directory, VM_FILES.runtime)))?.trim();
  return text === 'running' || text === 'suspended' ? text : 'stopped';
}
