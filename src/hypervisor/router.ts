/** Chooses the backend: by the platform for a new VM, by the handle for one that exists. The only file that knows all. */
import { VmctlError } from '../errors.js';
import type { StageContext } from '../model/event.js';
import type { VmSpec } from '../model/spec.js';
import type {
  BackendKind,
  GuestPort,
  ObservedVm,
  ResolvedVm,
  RunningVm,
  StoppedVm,
  SuspendedVm,
  VmHandle,
} from '../model/vm.js';
import type {
  BackendFacts,
  Capability,
  Capabilities,
  ConsoleEndpoint,
  Hypervisor,
  LinkChange,
  PrepareOptions,
  StartMode,
  StopMethod,
  StopOptions,
  VmRemains,
  WorkProcess,
} from './hypervisor.js';
import { NoopBackend } from './noop.js';
import { PropolisBackend } from './propolis/backend.js';
import type { PropolisOptions } from './propolis/options.js';
import { QemuBackend, type QemuOptions } from './qemu/backend.js';

export interface RouterOptions {
  readonly qemu: QemuOptions;
  readonly propolis: PropolisOptions;
  /** Overrides the platform's choice for new VMs. */
  readonly backend?: BackendKind | null;
  readonly platform?: NodeJS.Platform;
}

/** The router with the backends of this package. */
export function createRouter(options: RouterOptions): RouterHypervisor {
  const backends = [new QemuBackend(options.qemu), new PropolisBackend(options.propolis), new NoopBackend()];
  return new RouterHypervisor(backends, options.backend ?? backendOf(options.platform ?? process.platform));
}

/** Which backend runs new VMs on a platform. */
export function backendOf(platform: NodeJS.Platform): BackendKind {
  if (platform === 'linux' || platform === 'darwin') return 'qemu';
  if (platform === 'sunos') return 'propolis';
  throw new VmctlError('HOST_UNSUPPORTED', `vmctl has no backend for ${platform}`, {
    hint: 'It runs on Linux and macOS with QEMU, and on illumos with Propolis.',
  });
}

/** Looks like one backend, and hands every call to the one that is responsible. */
export class RouterHypervisor implements Hypervisor {
  readonly kind: BackendKind;
  readonly #backends: ReadonlyMap<BackendKind, Hypervisor>;

  /** `preferred` makes new VMs; the others only serve VMs that they made before. */
  constructor(backends: readonly Hypervisor[], preferred: BackendKind) {
    this.#backends = new Map(backends.map((backend) => [backend.kind, backend]));
    this.kind = preferred;
  }

  get capabilities(): Capabilities {
    return this.#backend(this.kind).capabilities;
  }

  /** The capabilities of the backend that runs this VM. */
  capabilitiesOf(handle: VmHandle): Capabilities {
    return this.#backend(handle.backend).capabilities;
  }

  checkHost(context: StageContext, spec?: VmSpec): Promise<void> {
    return this.#backend(this.kind).checkHost(context, spec);
  }

  /** Like `checkHost`, for the backend that made a VM. */
  async checkHostFor(backend: BackendKind, context: StageContext, spec?: VmSpec): Promise<void> {
    await this.#backend(backend).checkHost(context, spec);
  }

  async checkNetwork(spec: VmSpec): Promise<void> {
    await this.#backend(this.kind).checkNetwork(spec);
  }

  /** Like `checkNetwork`, for the backend that made a VM. */
  async checkNetworkFor(backend: BackendKind, spec: VmSpec): Promise<void> {
    await this.#backend(backend).checkNetwork(spec);
  }

  prepare(vm: ResolvedVm, options: PrepareOptions, context: StageContext): Promise<VmHandle> {
    return this.#backend(this.kind).prepare(vm, options, context);
  }

  start(vm: StoppedVm, context: StageContext, mode?: StartMode): Promise<RunningVm> {
    return this.#backend(vm.handle.backend).start(vm, context, mode);
  }

  stop(vm: RunningVm | SuspendedVm, options: StopOptions, context: StageContext): Promise<StopMethod> {
    return this.#backend(vm.handle.backend).stop(vm, options, context);
  }

  suspend(vm: RunningVm, context: StageContext): Promise<SuspendedVm> {
    return this.#backend(vm.handle.backend).suspend(vm, context);
  }

  resume(vm: SuspendedVm, context: StageContext): Promise<RunningVm> {
    return this.#backend(vm.handle.backend).resume(vm, context);
  }

  reserveMemory(vm: StoppedVm, context: StageContext): Promise<Capability> {
    return this.#backend(vm.handle.backend).reserveMemory(vm, context);
  }

  crash(vm: RunningVm | SuspendedVm, context: StageContext): Promise<void> {
    return this.#backend(vm.handle.backend).crash(vm, context);
  }

  reset(vm: RunningVm, context: StageContext): Promise<void> {
    return this.#backend(vm.handle.backend).reset(vm, context);
  }

  setLink(vm: RunningVm | SuspendedVm, link: LinkChange, context: StageContext): Promise<void> {
    return this.#backend(vm.handle.backend).setLink(vm, link, context);
  }

  save(vm: RunningVm | SuspendedVm, path: string, context: StageContext): Promise<SuspendedVm> {
    return this.#backend(vm.handle.backend).save(vm, path, context);
  }

  freeze(vm: ObservedVm, folder: string, context: StageContext): Promise<StoppedVm> {
    return this.#backend(vm.handle.backend).freeze(vm, folder, context);
  }

  prepareFrozen(spec: VmSpec, folder: string, options: PrepareOptions, context: StageContext): Promise<VmHandle> {
    return this.#backend(this.kind).prepareFrozen(spec, folder, options, context);
  }

  branch(vm: StoppedVm, folder: string, context: StageContext): Promise<StoppedVm> {
    return this.#backend(vm.handle.backend).branch(vm, folder, context);
  }

  /** For the backend of new VMs. */
  async stateFacts(signal: AbortSignal): Promise<Readonly<Record<string, string>>> {
    return this.#backend(this.kind).stateFacts(signal);
  }

  destroy(handle: VmHandle, context: StageContext): Promise<void> {
    return this.#backend(handle.backend).destroy(handle, context);
  }

  discard(remains: VmRemains): Promise<void> {
    return this.#backend(remains.backend).discard(remains);
  }

  observe(handle: VmHandle): Promise<ObservedVm> {
    return this.#backend(handle.backend).observe(handle);
  }

  async checkDisk(handle: VmHandle): Promise<void> {
    await this.#backend(handle.backend).checkDisk(handle);
  }

  console(handle: VmHandle): ConsoleEndpoint {
    return this.#backend(handle.backend).console(handle);
  }

  guestPort(handle: VmHandle): GuestPort | null {
    return this.#backend(handle.backend).guestPort(handle);
  }

  forwardTaken(handle: VmHandle, hostPort: number): Promise<boolean> {
    return this.#backend(handle.backend).forwardTaken(handle, hostPort);
  }

  async catchUpConsole(vm: VmRemains, signal?: AbortSignal): Promise<boolean> {
    return this.#backend(vm.backend).catchUpConsole(vm, signal);
  }

  screenshot(vm: RunningVm | SuspendedVm): Promise<Uint8Array> {
    return this.#backend(vm.handle.backend).screenshot(vm);
  }

  /** For the backend of new VMs. */
  async examineHost(signal: AbortSignal): Promise<BackendFacts> {
    return this.#backend(this.kind).examineHost(signal);
  }

  /** Those of all backends. */
  async findProcesses(vms: string): Promise<readonly WorkProcess[] | null> {
    const found = await Promise.all([...this.#backends.values()].map((backend) => backend.findProcesses(vms)));
    return found.some((processes) => processes === null) ? null : found.flatMap((processes) => processes ?? []);
  }

  async killProcess(process: WorkProcess): Promise<void> {
    await this.#backend(process.backend).killProcess(process);
  }

  #backend(kind: BackendKind): Hypervisor {
    const backend = this.#backends.get(kind);
    if (backend !== undefined) return backend;
    throw new VmctlError('HOST_UNSUPPORTED', `this version of vmctl has no ${kind} backend for this host`, {
      fields: { backend: kind },
    });
  }
}
