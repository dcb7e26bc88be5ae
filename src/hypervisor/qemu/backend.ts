/** QEMU on Linux and macOS. It runs detached; vmctl talks to it over QMP and finds it again by its command line. */
import { randomUUID } from 'node:crypto';
import { constants } from 'node:fs';
import { access, chmod, copyFile, rm, stat, writeFile } from 'node:fs/promises';
import { delimiter, join, resolve } from 'node:path';
import { SEED_VOLUME, seedFiles } from '../../cloud-init/seed.js';
import { buildIso } from '../../cloud-init/iso9660.js';
import { VmctlError } from '../../errors.js';
import { createOverlay } from '../../image/qemu-img.js';
import type { StageContext } from '../../model/event.js';
import type { VmSpec } from '../../model/spec.js';
import {
  type ObservedVm,
  type ResolvedVm,
  type RunningVm,
  type StoppedVm,
  type SuspendedVm,
  type VmHandle,
  assertTransition,
} from '../../model/vm.js';
import { PRIVATE_FILE_MODE, VM_FILES } from '../../paths.js';
import { startDetached } from '../../util/exec.js';
import { exists } from '../../util/fs.js';
import { identifyProcess } from '../../util/process.js';
import { waitFor } from '../../util/wait.js';
import type {
  BackendFacts,
  Capabilities,
  ConsoleEndpoint,
  Hypervisor,
  PrepareOptions,
  StopMethod,
  StopOptions,
  VmRemains,
  WorkProcess,
} from '../hypervisor.js';
import { buildWorkDirectory, removeWorkDirectory, stableMac, writeGuestAccess } from '../work-directory.js';
import { type AcceleratorChoice, type AcceleratorWish, chooseAccelerator } from './accelerator.js';
import { SSH_PORT, parseUserNetwork, qemuArguments } from './command-line.js';
import { requireFirmware } from './firmware.js';
import { examineQemuHost } from './host.js';
import { type Runtime, findQemu, findQemuOfRemains, findQemusBelow, writeRuntime } from './process.js';
import { type QmpConnection, connectQmp } from './qmp.js';
import { endProcess, powerDown } from './shutdown.js';
import { startError } from './start-error.js';

export interface QemuOptions {
  /** A path or a name to look for in PATH; null takes the host architecture's. */
  readonly binary: string | null;
  readonly extraArguments: readonly string[];
  readonly accelerator: AcceleratorWish;
  /** Where findings about this host are kept. */
  readonly hostFile: string;
  /** The value of PATH. */
  readonly searchPath: string;
}

const START_TIMEOUT_MS = 30_000;
/** Long enough for a busy QEMU to answer; a QMP socket that another vmctl is using stays silent. */
const OBSERVE_TIMEOUT_MS = 1_000;

const SUPPORTED = { supported: true } as const;

export class QemuBackend implements Hypervisor {
  readonly kind = 'qemu';
  readonly capabilities: Capabilities = {
    guestAccess: SUPPORTED,
    suspend: SUPPORTED,
    console: SUPPORTED,
    networks: {
      user: SUPPORTED,
      none: SUPPORTED,
      tap: { supported: false, reason: 'network "tap" is not supported yet; use network "user"' },
      vnic: { supported: false, reason: 'network "vnic" needs illumos with Propolis; use network "user"' },
    },
  };
  readonly #options: QemuOptions;
  #accelerator: Promise<AcceleratorChoice> | null = null;
  /** The slowness is told once, not for each VM. */
  #told = false;

  constructor(options: QemuOptions) {
    this.#options = options;
  }

  async checkHost(context: StageContext, spec?: VmSpec): Promise<void> {
    const qemuBinary = await this.#findBinary();
    if (spec?.firmware === 'uefi') await requireFirmware({ qemuBinary });
    const { reason } = await this.chooseAccelerator(context.signal);
    if (reason === null || this.#told) return;
    this.#told = true;
    context.reporter.log(`guests run by software emulation, several times slower: ${reason}`);
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
        const iso = buildIso({ volume: SEED_VOLUME, files: seedFiles(vm.seed, { instanceId: uuid, mac }) });
        await writeFile(join(directory, VM_FILES.seed), iso, { mode: PRIVATE_FILE_MODE });
      }
      await writeGuestAccess(directory, vm);
      if (spec.firmware === 'uefi') await this.#copyFirmwareVariables(directory);
      const createdAt = new Date().toISOString();
      return { name: spec.name, backend: 'qemu', directory: options.directory, uuid, mac, spec, image, createdAt };
    });
  }

  async start(vm: StoppedVm, context: StageContext): Promise<RunningVm> {
    const { handle } = vm;
    assertTransition(handle.name, (await this.observe(handle)).state, 'start');
    const binary = await this.#findBinary();
    const { accelerator } = await this.chooseAccelerator(context.signal);
    const uefiCode = handle.spec.firmware === 'uefi' ? await uefiCodeFor(handle, binary) : null;
    for (const name of [VM_FILES.qmpSocket, VM_FILES.consoleSocket, VM_FILES.pidfile]) {
      await rm(join(handle.directory, name), { force: true });
    }
    // Written first: a vmctl that is killed from here on leaves a trace that says "look for a QEMU".
    await writeRuntime(handle, { pid: null, accelerator, forwards: null });
    const { extraArguments } = this.#options;
    const hasSeed = await exists(join(handle.directory, VM_FILES.seed));
    const machine = { accelerator, hasSeed, uefiCode, extraArguments };
    const child = await startDetached(binary, qemuArguments(handle, machine), {
      cwd: handle.directory,
      logFile: join(handle.directory, VM_FILES.qemuLog),
    });
    const qemu = await identifyProcess(child.pid);
    try {
      await writeRuntime(handle, { pid: child.pid, accelerator, forwards: null });
      const forwards = await this.#awaitQmp(handle, child.ended, context.signal);
      await writeRuntime(handle, { pid: child.pid, accelerator, forwards: [...forwards] });
      const running = await this.observe(handle);
      if (running.state === 'running') return running;
      throw await startError(handle, `QEMU is ${running.state} right after its start`);
    } catch (error) {
      if (qemu !== null) await endProcess(qemu);
      throw error;
    }
  }

  async stop(vm: RunningVm | SuspendedVm, options: StopOptions, context: StageContext): Promise<StopMethod> {
    const { handle } = vm;
    assertTransition(handle.name, (await this.observe(handle)).state, 'stop');
    const qemu = (await findQemu(handle))?.process ?? null;
    if (qemu === null) return 'guest';
    if (options.graceMs > 0) {
      context.reporter.status(`asking the guest to power off, ${Math.ceil(options.graceMs / 1000)} s at most`);
      if (await powerDown(handle, qemu, { graceMs: options.graceMs, signal: context.signal })) return 'guest';
    }
    context.reporter.status('ending QEMU');
    return endProcess(qemu);
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

  async destroy(handle: VmHandle): Promise<void> {
    const qemu = await findQemu(handle);
    if (qemu !== null) await endProcess(qemu.process);
    await removeWorkDirectory(handle.directory);
  }

  async discard(remains: VmRemains): Promise<void> {
    const qemu = await findQemuOfRemains(remains.name, remains.directory);
    if (qemu !== null) await endProcess(qemu);
    await removeWorkDirectory(remains.directory);
  }

  async observe(handle: VmHandle): Promise<ObservedVm> {
    const qemu = await findQemu(handle);
    if (qemu === null) return { state: 'stopped', handle };
    const { status, forwards } = await ask(handle, qemu.runtime);
    const ssh = forwards.find(({ guest }) => guest === SSH_PORT);
    const live = {
      handle,
      pid: qemu.process.pid,
      ssh: ssh === undefined ? null : { host: '127.0.0.1', port: ssh.host },
      forwards,
      accelerator: qemu.runtime.accelerator,
    };
    if (status === 'paused') return { state: 'suspended', pausedBy: 'request', ...live };
    // QEMU manual, "-drive werror=enospc", the default: a write that the host's disk refuses pauses the guest.
    if (status === 'io-error') return { state: 'suspended', pausedBy: 'disk-error', ...live };
    return { state: 'running', ...live };
  }

  console(handle: VmHandle): ConsoleEndpoint {
    return { kind: 'unix', path: join(handle.directory, VM_FILES.consoleSocket) };
  }

  examineHost(signal: AbortSignal): Promise<BackendFacts> {
    const { accelerator: wish, hostFile: cacheFile } = this.#options;
    return examineQemuHost(() => this.#findBinary(), { wish, cacheFile, signal });
  }

  findProcesses(vms: string): Promise<readonly WorkProcess[] | null> {
    return findQemusBelow(vms);
  }

  async #copyFirmwareVariables(directory: string): Promise<void> {
    const { variables } = await requireFirmware({ qemuBinary: await this.#findBinary() });
    const path = join(directory, VM_FILES.firmwareVariables);
    await copyFile(variables, path);
    // The template may be read-only.
    await chmod(path, PRIVATE_FILE_MODE);
  }

  async #chooseAccelerator(signal: AbortSignal): Promise<AcceleratorChoice> {
    const binary = await this.#findBinary();
    return chooseAccelerator({ wish: this.#options.accelerator, binary, cacheFile: this.#options.hostFile, signal });
  }

  async #command(handle: VmHandle, transition: 'suspend' | 'resume', command: string): Promise<void> {
    assertTransition(handle.name, (await this.observe(handle)).state, transition);
    const qmp = await connectQmp(join(handle.directory, VM_FILES.qmpSocket));
    try {
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

  async #findBinary(): Promise<string> {
    const name = this.#options.binary ?? defaultBinary();
    const folders = name.includes('/') ? [''] : this.#options.searchPath.split(delimiter);
    // Absolute, because QEMU is started in another directory than this one.
    for (const candidate of folders.map((folder) => resolve(folder, name))) {
      const executable = await access(candidate, constants.X_OK).then(
        () => true,
        () => false,
      );
      if (executable) return candidate;
    }
    throw new VmctlError('HOST_UNSUPPORTED', `${name} was not found`, {
      hint: 'Install QEMU: "apt-get install qemu-system-x86 qemu-utils" (Debian, Ubuntu), "dnf install qemu-system-x86-core qemu-img" (Fedora), "pacman -S qemu-base" (Arch), "brew install qemu" (macOS).',
      fields: { program: name },
    });
  }
}

/** The code that reads this VM's variables: the host may have been given firmware of another layout since. */
async function uefiCodeFor(handle: VmHandle, qemuBinary: string): Promise<string> {
  const { size } = await stat(join(handle.directory, VM_FILES.firmwareVariables));
  return (await requireFirmware({ qemuBinary, variablesBytes: size })).code;
}

function defaultBinary(): string {
  if (process.arch === 'x64') return 'qemu-system-x86_64';
  throw new VmctlError(
    'HOST_UNSUPPORTED',
    `vmctl runs guests on x86-64 hosts only so far, and this one is ${process.arch}`,
  );
}

/** What QEMU says over QMP; what was recorded at the start where another client keeps it busy. */
async function ask(
  handle: VmHandle,
  runtime: Runtime,
): Promise<{ status: string; forwards: Runtime['forwards'] & {} }> {
  let qmp: QmpConnection | null = null;
  try {
    qmp = await connectQmp(join(handle.directory, VM_FILES.qmpSocket), { timeoutMs: OBSERVE_TIMEOUT_MS });
    const answer = await qmp.execute('query-status');
    const status =
      typeof answer === 'object' && answer !== null && 'status' in answer ? String(answer.status) : 'running';
    const forwards = runtime.forwards ?? [...parseUserNetwork(await qmp.monitor('info usernet'))];
    return { status, forwards };
  } catch {
    return { status: 'running', forwards: runtime.forwards ?? [] };
  } finally {
    qmp?.close();
  }
}
