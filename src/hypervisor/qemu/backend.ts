/** QEMU on Linux and macOS. It runs detached; vmctl talks to it over QMP and finds it again by its command line. */
import { join } from 'node:path';
import { VmctlError } from '../../errors.js';
import type { StageContext } from '../../model/event.js';
import type { VmSpec } from '../../model/spec.js';
import {
  type GuestPort,
  type ObservedVm,
  type ResolvedVm,
  type RunningVm,
  type StoppedVm,
  type SuspendedVm,
  type VmHandle,
  assertTransition,
} from '../../model/vm.js';
import { VM_FILES } from '../../paths.js';
import { type CommandRunner, runCommand } from '../../util/exec.js';
import { exists } from '../../util/fs.js';
import { checkBaseImage, diskMissing } from '../base-image.js';
import type {
  BackendFacts,
  Capabilities,
  Capability,
  ConsoleEndpoint,
  Hypervisor,
  LinkChange,
  PrepareOptions,
  StartMode,
  StopMethod,
  StopOptions,
  VmRemains,
  WorkProcess,
} from '../hypervisor.js';
import { removeWorkDirectory } from '../work-directory.js';
import { type AcceleratorChoice, type AcceleratorWish, chooseAccelerator } from './accelerator.js';
import { type BinaryOptions, findBinary } from './binary.js';
import { qemuCapabilities } from './capabilities.js';
import { GUEST_PORT_DEVICE } from './command-line.js';
import { changeLink, cutPower, pressReset } from './faults.js';
import { requireFirmware } from './firmware.js';
import { branchDisk, freezeFiles, prepareFromFrozen } from './freeze.js';
import { LEASE_FILES } from './guest-address.js';
import { examineQemuHost } from './host.js';
import { machineFacts } from './machine-facts.js';
import { removeMemory, reserveMemory } from './memory.js';
import { isForwardTaken, observeQemu, qemuBefore } from './observe.js';
import { continueGuest, pauseGuest } from './pause.js';
import { prepareFiles } from './prepare.js';
import { findQemu, findQemuOfRemains, findQemusBelow, killByPid, readRuntime, removePidfile } from './process.js';
import { takeScreenshot } from './screenshot.js';
import { endProcess, powerDown } from './shutdown.js';
import { startQemu } from './start.js';
import { saveState } from './state.js';
import { checkBridge, checkTap, removeTap, tapOf } from './tap.js';

export interface QemuOptions extends BinaryOptions {
  readonly extraArguments: readonly string[];
  readonly accelerator: AcceleratorWish;
  /** Where findings about this host are kept. */
  readonly hostFile: string;
  /** Where the leases of guests on a bridge are written down; null takes the usual places. See `LEASE_FILES`. */
  readonly leaseFiles?: readonly string[] | null;
  /** Runs the host's `ip`; default the real one. */
  readonly run?: CommandRunner;
}

export class QemuBackend implements Hypervisor {
  readonly kind = 'qemu';
  readonly capabilities: Capabilities = qemuCapabilities(process.platform);
  readonly #options: QemuOptions;
  readonly #run: CommandRunner;
  #accelerator: Promise<AcceleratorChoice> | null = null;
  /** The slowness is told once, not for each VM. */
  #told = false;

  constructor(options: QemuOptions) {
    this.#options = options;
    this.#run = options.run ?? runCommand;
  }

  async checkHost(context: StageContext, spec?: VmSpec): Promise<void> {
    const qemuBinary = await this.#findBinary();
    if (spec !== undefined) await this.#checkNeeds(spec, qemuBinary);
    const { reason } = await this.chooseAccelerator(context.signal);
    if (reason === null || this.#told) return;
    this.#told = true;
    context.reporter.log(
      `guests run by software emulation, several times slower: ${reason}; what helps is told by: vmctl doctor`,
    );
  }

  async checkNetwork(spec: VmSpec): Promise<void> {
    this.#requireNetwork(spec);
    if (spec.network.kind === 'tap') await checkBridge(spec.network.bridge, this.#run);
  }

  /** What guests will run on, and why it is not the fast one; found out once. */
  async chooseAccelerator(signal: AbortSignal): Promise<AcceleratorChoice> {
    this.#accelerator ??= this.#chooseAccelerator(signal);
    try {
      return await this.#accelerator;
    } catch (error) {
      this.#accelerator = null;
      throw error;
    }
  }

  prepare(vm: ResolvedVm, options: PrepareOptions, { signal }: StageContext): Promise<VmHandle> {
    return prepareFiles(vm, options, { findBinary: () => this.#findBinary(), signal });
  }

  async start({ handle }: StoppedVm, context: StageContext, mode: StartMode = { kind: 'boot' }): Promise<RunningVm> {
    assertTransition(handle.name, (await this.observe(handle)).state, 'start');
    const binary = await this.#findBinary();
    const { accelerator } = await this.chooseAccelerator(context.signal);
    const { extraArguments } = this.#options;
    const leaseFiles = this.#options.leaseFiles ?? LEASE_FILES;
    const { signal } = context;
    return startQemu(handle, { binary, accelerator, extraArguments, leaseFiles, mode, run: this.#run, signal });
  }

  reserveMemory({ handle }: StoppedVm, { signal }: StageContext): Promise<Capability> {
    return reserveMemory(handle, signal);
  }

  async stop(vm: RunningVm | SuspendedVm, options: StopOptions, context: StageContext): Promise<StopMethod> {
    const { handle } = vm;
    assertTransition(handle.name, (await this.observe(handle)).state, 'stop');
    const method = await this.#end(handle, options, context);
    await this.#disconnect(tapOf(handle.spec)?.name ?? null);
    await removeMemory(handle);
    return method;
  }

  async #end(handle: VmHandle, options: StopOptions, context: StageContext): Promise<StopMethod> {
    const qemu = (await findQemu(handle))?.process ?? null;
    if (qemu === null) return 'guest';
    if (options.graceMs > 0) {
      context.reporter.status(`asking the guest to power off, ${Math.ceil(options.graceMs / 1000)} s at most`);
      if (await powerDown(handle, qemu, { graceMs: options.graceMs, signal: context.signal })) return 'guest';
    }
    context.reporter.status('ending QEMU');
    const method = await endProcess(qemu);
    await removePidfile(handle);
    return method;
  }

  async suspend(vm: RunningVm): Promise<SuspendedVm> {
    assertTransition(vm.handle.name, (await this.observe(vm.handle)).state, 'suspend');
    await pauseGuest(vm.handle);
    return { ...vm, state: 'suspended', pausedBy: 'request' };
  }

  async resume(vm: SuspendedVm): Promise<RunningVm> {
    assertTransition(vm.handle.name, (await this.observe(vm.handle)).state, 'resume');
    await continueGuest(vm.handle);
    const { pausedBy: _over, ...live } = vm;
    return { ...live, state: 'running' };
  }

  async crash({ handle }: RunningVm | SuspendedVm): Promise<void> {
    await cutPower(handle, await qemuBefore('crash', handle, this.#run));
    await this.#disconnect(tapOf(handle.spec)?.name ?? null);
  }

  async reset({ handle }: RunningVm): Promise<void> {
    await qemuBefore('reset', handle, this.#run);
    await pressReset(handle);
  }

  async setLink({ handle }: RunningVm | SuspendedVm, link: LinkChange): Promise<void> {
    await changeLink(handle, await qemuBefore(link.up ? 'connect' : 'disconnect', handle, this.#run), link);
  }

  async save(vm: RunningVm | SuspendedVm, path: string, context: StageContext): Promise<SuspendedVm> {
    const { handle } = vm;
    const { state } = await this.observe(handle);
    if (state !== 'suspended') assertTransition(handle.name, state, 'suspend');
    await saveState(handle, { path, withoutMemory: false }, context.signal);
    return { ...vm, state: 'suspended', pausedBy: 'request' };
  }

  async freeze(vm: ObservedVm, folder: string, context: StageContext): Promise<StoppedVm> {
    const { handle } = vm;
    await freezeFiles(handle, folder, {
      saveState: (target) => saveState(handle, target, context.signal),
      endQemu: async () => {
        const now = await this.observe(handle);
        if (now.state !== 'stopped') await this.stop(now, { graceMs: 0 }, context);
      },
      isLive: (await this.observe(handle)).state !== 'stopped',
      note: (text) => context.reporter.log(text),
    });
    return { state: 'stopped', handle };
  }

  prepareFrozen(spec: VmSpec, folder: string, options: PrepareOptions, context: StageContext): Promise<VmHandle> {
    return prepareFromFrozen(spec, folder, { ...options, signal: context.signal });
  }

  async branch({ handle }: StoppedVm, folder: string, context: StageContext): Promise<StoppedVm> {
    assertTransition(handle.name, (await this.observe(handle)).state, 'start');
    return { state: 'stopped', handle: await branchDisk(handle, folder, context.signal) };
  }

  /** The program, the processor as guests see it, and what the user adds to the command line. */
  async stateFacts(signal: AbortSignal): Promise<Readonly<Record<string, string>>> {
    const { accelerator } = await this.chooseAccelerator(signal);
    const { extraArguments } = this.#options;
    return machineFacts({ binary: await this.#findBinary(), accelerator, extraArguments, run: this.#run, signal });
  }

  async destroy(handle: VmHandle): Promise<void> {
    const qemu = await findQemu(handle);
    if (qemu !== null) await endProcess(qemu.process);
    await this.#disconnect(tapOf(handle.spec)?.name ?? null);
    await removeWorkDirectory(handle.directory);
  }

  async discard(remains: VmRemains): Promise<void> {
    const qemu = await findQemuOfRemains(remains.name, remains.directory);
    if (qemu !== null) await endProcess(qemu);
    await this.#disconnect((await readRuntime(remains))?.tap?.name ?? null);
    await removeWorkDirectory(remains.directory);
  }

  observe(handle: VmHandle): Promise<ObservedVm> {
    return observeQemu(handle, this.#run);
  }

  async checkDisk(handle: VmHandle): Promise<void> {
    const overlay = join(handle.directory, VM_FILES.overlay);
    if (!(await exists(overlay))) throw diskMissing(handle, overlay);
    await checkBaseImage(handle);
  }

  console(handle: VmHandle): ConsoleEndpoint {
    return { kind: 'unix', path: join(handle.directory, VM_FILES.consoleSocket) };
  }

  guestPort(handle: VmHandle): GuestPort {
    return { device: GUEST_PORT_DEVICE, socket: join(handle.directory, VM_FILES.portSocket) };
  }

  forwardTaken(handle: VmHandle, hostPort: number): Promise<boolean> {
    return isForwardTaken(handle, hostPort);
  }

  /** QEMU writes it by itself. */
  async catchUpConsole(): Promise<boolean> {
    return true;
  }

  screenshot({ handle }: RunningVm | SuspendedVm): Promise<Uint8Array> {
    return takeScreenshot(handle);
  }

  examineHost(signal: AbortSignal): Promise<BackendFacts> {
    const { accelerator: wish, hostFile: cacheFile } = this.#options;
    return examineQemuHost(() => this.#findBinary(), { wish, cacheFile, signal });
  }

  findProcesses(vms: string): Promise<readonly WorkProcess[] | null> {
    return findQemusBelow(vms);
  }

  killProcess({ pid }: WorkProcess): Promise<void> {
    return killByPid(pid);
  }

  /** Throws `HOST_UNSUPPORTED` or `UNSUPPORTED` for what this VM needs and the host has not. */
  async #checkNeeds(spec: VmSpec, qemuBinary: string): Promise<void> {
    this.#requireNetwork(spec);
    if (spec.firmware === 'uefi') await requireFirmware({ qemuBinary });
    const tap = tapOf(spec);
    if (tap !== null) await checkTap(tap, this.#run);
  }

  #requireNetwork(spec: VmSpec): void {
    const network = this.capabilities.networks[spec.network.kind];
    if (!network.supported) throw new VmctlError('UNSUPPORTED', `VM "${spec.name}": ${network.reason}`);
  }

  async #disconnect(tap: string | null): Promise<void> {
    if (tap !== null) await removeTap(tap, this.#run);
  }

  async #chooseAccelerator(signal: AbortSignal): Promise<AcceleratorChoice> {
    const binary = await this.#findBinary();
    return chooseAccelerator({ wish: this.#options.accelerator, binary, cacheFile: this.#options.hostFile, signal });
  }

  #findBinary(): Promise<string> {
    return findBinary(this.#options);
  }
}
