/** QEMU on Linux and macOS. It runs detached; vmctl talks to it over QMP and finds it again by its command line. */
import { randomUUID } from 'node:crypto';
import { realpath, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { SEED_VOLUME, seedFiles } from '../../cloud-init/seed.js';
import { buildIso } from '../../cloud-init/iso9660.js';
import { VmctlError } from '../../errors.js';
import { createOverlay } from '../../image/qemu-img.js';
import type { StageContext } from '../../model/event.js';
import { type LanSegment, lanIdentity, lanSegment } from '../../model/lan.js';
import type { VmSpec } from '../../model/spec.js';
import {
  type ObservedVm,
  type ResolvedVm,
  type RunningVm,
  type StoppedVm,
  type SuspendedVm,
  type Transition,
  type VmHandle,
  assertTransition,
  illegalTransition,
} from '../../model/vm.js';
import { PRIVATE_FILE_MODE, VM_FILES } from '../../paths.js';
import { type CommandRunner, runCommand, startDetached } from '../../util/exec.js';
import { exists } from '../../util/fs.js';
import { identifyProcess } from '../../util/process.js';
import { waitFor } from '../../util/wait.js';
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
import { checkBaseImage, diskMissing } from '../base-image.js';
import { buildWorkDirectory, removeWorkDirectory, stableMac, writeGuestAccess } from '../work-directory.js';
import { type AcceleratorChoice, type AcceleratorWish, chooseAccelerator } from './accelerator.js';
import { type BinaryOptions, findBinary } from './binary.js';
import { hasConnection, parseUserNetwork, qemuArguments } from './command-line.js';
import { changeLink, cutPower, pressReset } from './faults.js';
import { copyVariables, requireFirmware, uefiCodeFor } from './firmware.js';
import { branchDisk, freezeFiles, prepareFromFrozen } from './freeze.js';
import { LEASE_FILES, findSsh } from './guest-address.js';
import { examineQemuHost } from './host.js';
import { placeMemory, removeMemory, reserveMemory } from './memory.js';
import { machineFacts } from './machine-facts.js';
import {
  type LiveQemu,
  type Runtime,
  crashOf,
  findQemu,
  findQemuOfRemains,
  findQemusBelow,
  killByPid,
  readRuntime,
  removePidfile,
  writeRuntime,
} from './process.js';
import { type QmpConnection, connectQmp } from './qmp.js';
import { takeScreenshot } from './screenshot.js';
import { endProcess, powerDown } from './shutdown.js';
import { startError } from './start-error.js';
import { restoreState, saveState } from './state.js';
import { attachTap, checkBridge, checkTap, removeTap, tapOf } from './tap.js';

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

const START_TIMEOUT_MS = 30_000;
/** Long enough for a busy QEMU to answer; a QMP socket that another vmctl is using stays silent. */
const OBSERVE_TIMEOUT_MS = 1_000;

/**
 * Somebody paused it, also while it was resetting itself (`prelaunch`), it was saved, or it waits for the state that it is
 * to go on from.
 */
const PAUSED: readonly string[] = ['paused', 'prelaunch', 'postmigrate', 'finish-migrate', 'inmigrate'];

const SUPPORTED = { supported: true } as const;

export class QemuBackend implements Hypervisor {
  readonly kind = 'qemu';
  readonly capabilities: Capabilities = {
    guestAccess: SUPPORTED,
    suspend: SUPPORTED,
    crash: SUPPORTED,
    reset: SUPPORTED,
    links: SUPPORTED,
    console: SUPPORTED,
    screenshot: SUPPORTED,
    memorySnapshots: SUPPORTED,
    networks: {
      user: SUPPORTED,
      none: SUPPORTED,
      tap:
        process.platform === 'linux'
          ? SUPPORTED
          : { supported: false, reason: 'network "tap" needs a bridge of Linux; use network "user"' },
      vnic: { supported: false, reason: 'network "vnic" needs illumos with Propolis; use network "user"' },
    },
  };
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

  async prepare(vm: ResolvedVm, options: PrepareOptions, context: StageContext): Promise<VmHandle> {
    const { spec, image } = vm;
    const uuid = randomUUID();
    const mac = spec.network.kind === 'none' ? null : stableMac(spec.project, spec.name);
    return buildWorkDirectory(options, async (directory) => {
      const overlay = { base: image, path: join(directory, VM_FILES.overlay), sizeBytes: spec.diskBytes };
      await createOverlay(overlay, { signal: context.signal });
      if (vm.seed !== null) {
        const iso = buildIso({
          volume: SEED_VOLUME,
          files: seedFiles(vm.seed, { instanceId: uuid, mac, lan: lanIdentity(spec) }),
        });
        await writeFile(join(directory, VM_FILES.seed), iso, { mode: PRIVATE_FILE_MODE });
      }
      await writeGuestAccess(directory, vm);
      if (spec.firmware === 'uefi') await copyVariables(directory, await this.#findBinary());
      const createdAt = new Date().toISOString();
      return { name: spec.name, backend: 'qemu', directory: options.directory, uuid, mac, spec, image, createdAt };
    });
  }

  async start(vm: StoppedVm, context: StageContext, mode: StartMode = { kind: 'boot' }): Promise<RunningVm> {
    const { handle } = vm;
    assertTransition(handle.name, (await this.observe(handle)).state, 'start');
    const binary = await this.#findBinary();
    const { accelerator } = await this.chooseAccelerator(context.signal);
    const uefiCode = handle.spec.firmware === 'uefi' ? await uefiCodeFor(handle.directory, binary) : null;
    for (const name of [VM_FILES.qmpSocket, VM_FILES.consoleSocket, VM_FILES.pidfile]) {
      await rm(join(handle.directory, name), { force: true });
    }
    const { extraArguments } = this.#options;
    const hasSeed = await exists(join(handle.directory, VM_FILES.seed));
    const memory = await placeMemory(handle, mode);
    const awaitsState = mode.kind === 'restore';
    const readdressed = awaitsState && (mode.readdressed ?? false);
    const segment = await segmentOf(handle);
    const machine = { accelerator, hasSeed, uefiCode, segment, memory, awaitsState, readdressed, extraArguments };
    const words = qemuArguments(withForwards(handle, mode), machine);
    const tap = tapOf(handle.spec);
    const recorded =
      tap === null ? null : { name: tap.name, leaseFiles: [...(this.#options.leaseFiles ?? LEASE_FILES)] };
    const runtime = { pid: null, accelerator, forwards: null, tap: recorded, unplugged: [] };
    // Written first: a vmctl that is killed from here on leaves a trace that says "look for a QEMU".
    await writeRuntime(handle, runtime);
    if (tap !== null) await attachTap(tap, this.#run);
    try {
      return await this.#launch(handle, { binary, words, runtime, mode }, context);
    } catch (error) {
      await this.#disconnect(tap?.name ?? null);
      await removeMemory(handle);
      throw error;
    }
  }

  reserveMemory({ handle }: StoppedVm, context: StageContext): Promise<Capability> {
    return reserveMemory(handle, context.signal);
  }

  /** Gives a QEMU that runs; one that does not come to that is ended. */
  async #launch(
    handle: VmHandle,
    start: {
      readonly binary: string;
      readonly words: readonly string[];
      readonly runtime: Runtime;
      readonly mode: StartMode;
    },
    context: StageContext,
  ): Promise<RunningVm> {
    const logFile = join(handle.directory, VM_FILES.qemuLog);
    const child = await startDetached(start.binary, start.words, { cwd: handle.directory, logFile });
    const qemu = await identifyProcess(child.pid);
    try {
      const runtime = { ...start.runtime, pid: child.pid };
      await writeRuntime(handle, runtime);
      const forwards = await this.#awaitQmp(handle, child.ended, context.signal);
      await writeRuntime(handle, { ...runtime, forwards: [...forwards] });
      if (start.mode.kind === 'restore') await restoreState(handle, start.mode.saved, context.signal);
      const running = await this.observe(handle);
      if (running.state === 'running') return running;
      throw await startError(handle, `QEMU is ${running.state} right after its start`);
    } catch (error) {
      if (qemu !== null) await endProcess(qemu);
      await removePidfile(handle);
      throw error;
    }
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
    await this.#command(vm.handle, 'suspend', 'stop');
    return { ...vm, state: 'suspended', pausedBy: 'request' };
  }

  async resume(vm: SuspendedVm): Promise<RunningVm> {
    await this.#command(vm.handle, 'resume', 'cont');
    const { pausedBy: _over, ...live } = vm;
    return { ...live, state: 'running' };
  }

  async crash({ handle }: RunningVm | SuspendedVm): Promise<void> {
    await cutPower(handle, await this.#live(handle, 'crash'));
    await this.#disconnect(tapOf(handle.spec)?.name ?? null);
  }

  async reset({ handle }: RunningVm): Promise<void> {
    await this.#live(handle, 'reset');
    await pressReset(handle);
  }

  async setLink({ handle }: RunningVm | SuspendedVm, link: LinkChange): Promise<void> {
    await changeLink(handle, await this.#live(handle, link.up ? 'connect' : 'disconnect'), link);
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

  async observe(handle: VmHandle): Promise<ObservedVm> {
    const qemu = await findQemu(handle);
    if (qemu === null) return { state: 'stopped', handle, ...(await crashOf(handle)) };
    const { status, forwards } = await ask(handle, qemu.runtime);
    const live = {
      handle,
      pid: qemu.process.pid,
      ssh: await findSsh(handle, { forwards, leaseFiles: qemu.runtime.tap?.leaseFiles ?? LEASE_FILES, run: this.#run }),
      forwards,
      accelerator: qemu.runtime.accelerator,
      unplugged: qemu.runtime.unplugged,
    };
    if (PAUSED.includes(status)) return { state: 'suspended', pausedBy: 'request', ...live };
    // QEMU manual, "-drive werror=enospc", the default: a write that the host's disk refuses pauses the guest.
    if (status === 'io-error') return { state: 'suspended', pausedBy: 'disk-error', ...live };
    return { state: 'running', ...live };
  }

  async checkDisk(handle: VmHandle): Promise<void> {
    const overlay = join(handle.directory, VM_FILES.overlay);
    if (!(await exists(overlay))) throw diskMissing(handle, overlay);
    await checkBaseImage(handle);
  }

  console(handle: VmHandle): ConsoleEndpoint {
    return { kind: 'unix', path: join(handle.directory, VM_FILES.consoleSocket) };
  }

  async forwardTaken(handle: VmHandle, hostPort: number): Promise<boolean> {
    const qmp = await connectQmp(join(handle.directory, VM_FILES.qmpSocket), { timeoutMs: OBSERVE_TIMEOUT_MS }).catch(
      () => null,
    );
    // It has ended, or another vmctl is using it at this moment.
    if (qmp === null) return false;
    try {
      return hasConnection(await qmp.monitor('info usernet'), hostPort);
    } finally {
      qmp.close();
    }
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

  /** The QEMU of a VM that is about to make this transition. */
  async #live(handle: VmHandle, transition: Transition): Promise<LiveQemu> {
    const { state } = await this.observe(handle);
    assertTransition(handle.name, state, transition);
    const qemu = await findQemu(handle);
    if (qemu !== null) return qemu;
    // It has ended between the two looks.
    throw illegalTransition(handle.name, 'stopped', transition);
  }

  async #command(handle: VmHandle, transition: 'suspend' | 'resume', command: string): Promise<void> {
    assertTransition(handle.name, (await this.observe(handle)).state, transition);
    const qmp = await connectQmp(join(handle.directory, VM_FILES.qmpSocket));
    try {
      if (transition === 'resume' && (await qmp.status()) === 'inmigrate') throw notRestored(handle);
      await qmp.execute(command);
    } finally {
      qmp.close();
    }
  }

  /** Waits until QEMU answers on QMP and tells its forwards, or has ended with a reason. */
  async #awaitQmp(handle: VmHandle, ended: Promise<string>, signal: AbortSignal): Promise<Runtime['forwards'] & {}> {
    let end: string | null = null;
    void ended.then((how) => (end = how));
    const look = async () => {
      if (end !== null) throw await startError(handle, `QEMU ${end}`);
      const qmp = await connectQmp(join(handle.directory, VM_FILES.qmpSocket)).catch(() => null);
      if (qmp === null) return null;
      try {
        return { forwards: parseUserNetwork(await qmp.monitor('info usernet')) };
      } finally {
        qmp.close();
      }
    };
    const found = await waitFor(look, { timeoutMs: START_TIMEOUT_MS, signal });
    if (found === null) throw await startError(handle, `QEMU did not answer on QMP for ${START_TIMEOUT_MS / 1000} s`);
    return [...found.forwards];
  }

  #findBinary(): Promise<string> {
    return findBinary(this.#options);
  }
}

/** Symbolic links resolved, so that VMs of one folder meet by whatever path they were started. */
async function segmentOf({ spec, directory }: VmHandle): Promise<LanSegment | null> {
  const { network, project } = spec;
  if (network.kind !== 'user' || network.lan === null) return null;
  return lanSegment({ project, vms: await realpath(dirname(directory)), name: network.lan.name });
}

/** The same with the ports of this host that it is to have. */
function withForwards(handle: VmHandle, mode: StartMode): VmHandle {
  const { spec } = handle;
  if (mode.kind !== 'restore' || mode.forwards === undefined || spec.network.kind !== 'user') return handle;
  return { ...handle, spec: { ...spec, network: { ...spec.network, forwards: mode.forwards } } };
}

/** A machine that was never given its state has nothing to go on from. */
function notRestored({ name }: VmHandle): VmctlError {
  return new VmctlError('VM_STATE', `cannot resume VM "${name}": vmctl was killed while it was restored`, {
    hint: `To end it, run: vmctl stop --force ${name}`,
    fields: { vm: name },
  });
}

/** What QEMU says over QMP; what was recorded at the start where another client keeps it busy. */
async function ask(
  handle: VmHandle,
  runtime: Runtime,
): Promise<{ status: string; forwards: Runtime['forwards'] & {} }> {
  let qmp: QmpConnection | null = null;
  try {
    qmp = await connectQmp(join(handle.directory, VM_FILES.qmpSocket), { timeoutMs: OBSERVE_TIMEOUT_MS });
    const status = await qmp.status();
    const forwards = runtime.forwards ?? [...parseUserNetwork(await qmp.monitor('info usernet'))];
    return { status, forwards };
  } catch {
    return { status: 'running', forwards: runtime.forwards ?? [] };
  } finally {
    qmp?.close();
  }
}
