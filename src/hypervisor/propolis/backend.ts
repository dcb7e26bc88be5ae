/**
 * Propolis on illumos: one propolis-server for each VM, a ZFS clone for its disk, a VNIC for its network. It has been
 * tested against fakes of the published interface, and not yet on an illumos machine.
 */
import { diskMissing } from '../base-image.js';
import { randomUUID } from 'node:crypto';
import { readlink } from 'node:fs/promises';
import { writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import type { Duplex } from 'node:stream';
import { buildIso } from '../../cloud-init/iso9660.js';
import { SEED_VOLUME, seedFiles } from '../../cloud-init/seed.js';
import { VmctlError } from '../../errors.js';
import { diskSize } from '../../image/qemu-img.js';
import type { StageContext } from '../../model/event.js';
import type { VmSpec } from '../../model/spec.js';
import {
  type Endpoint,
  type ObservedVm,
  type ResolvedVm,
  type RunningVm,
  type StoppedVm,
  type SuspendedVm,
  type VmHandle,
  assertTransition,
} from '../../model/vm.js';
import { PRIVATE_FILE_MODE, VM_FILES } from '../../paths.js';
import { type CommandRunner, runCommand } from '../../util/exec.js';
import { exists } from '../../util/fs.js';
import { withLock } from '../../util/lock.js';
import { commandLineOf, findByCommandLine } from '../../util/process.js';
import { throwIfAborted, waitFor } from '../../util/wait.js';
import {
  type BackendFacts,
  type Capabilities,
  type ConsoleEndpoint,
  type Hypervisor,
  type PrepareOptions,
  type StopMethod,
  type StopOptions,
  type VmRemains,
  type WorkProcess,
  noScreen,
} from '../hypervisor.js';
import { buildWorkDirectory, removeWorkDirectory, stableMac, writeGuestAccess } from '../work-directory.js';
import { findInArp } from './delimited.js';
import { examinePropolisHost, requireHost } from './host.js';
import { HostRunner } from './host-runner.js';
import { checkSize, ensureRequest } from './instance-spec.js';
import { type Parts, readParts, staticAddress, writeParts } from './parts.js';
import {
  type LiveServer,
  awaitEnd,
  awaitServer,
  clientOf,
  endServer,
  findServer,
  isLive,
  startError,
  startServer,
  stateOf,
} from './server.js';
import { Undo } from './undo.js';
import { attachVnic, checkVnic, removeVnic } from './vnic.js';
import { cloneDisk, digestOf, findVolume, makeBase, rawDevice, releaseBase, removeVolume } from './volumes.js';

export interface PropolisOptions {
  /** The program; null looks for `propolis-server` in PATH. */
  readonly binary?: string | null;
  /** The firmware that every VM starts with; null takes the usual place. */
  readonly bootrom?: string | null;
  /** The ZFS dataset below which the disks are. */
  readonly dataset?: string | null;
  /** The link that VNICs stand on; null takes the first physical one. */
  readonly link?: string | null;
  /** Where locks are. */
  readonly locks: string;
  /** Asks the guest to power off; settles when it was told. */
  readonly powerOff?: (handle: VmHandle, ssh: Endpoint, signal: AbortSignal) => Promise<void>;
  /** Runs the host's commands; default the real ones. */
  readonly run?: CommandRunner;
  /** Default: whether vmctl runs as root. */
  readonly isRoot?: boolean;
  readonly platform?: NodeJS.Platform;
  /** How long a VM may take to come to run, in milliseconds; default a minute. */
  readonly startTimeoutMs?: number;
}

/** What is not configured. The bootrom is where the packages of Oxide put it. */
export const DEFAULTS = {
  binary: 'propolis-server',
  bootrom: '/opt/oxide/propolis-server/blob/OVMF_CODE.fd',
  dataset: 'rpool/vmctl',
} as const;

const START_TIMEOUT_MS = 60_000;
const SSH_PORT = 22;

const SUPPORTED = { supported: true } as const;
const no = (reason: string) => ({ supported: false, reason }) as const;
const NO_SUSPEND = no('Propolis can start and stop a VM, and not pause it');
const NO_SCREEN = no('vmctl does not ask Propolis for a picture');
const INSTEAD = 'use network "vnic" name="vmctl0", or "none"';

export class PropolisBackend implements Hypervisor {
  readonly kind = 'propolis';
  readonly capabilities: Capabilities = {
    guestAccess: SUPPORTED,
    suspend: NO_SUSPEND,
    console: SUPPORTED,
    consoleLog: no('Propolis keeps no log of the serial console'),
    screenshot: NO_SCREEN,
    networks: {
      user: no(`network "user" needs QEMU, which illumos does not run; ${INSTEAD}`),
      tap: no(`network "tap" needs a bridge of Linux; ${INSTEAD}`),
      vnic: SUPPORTED,
      none: SUPPORTED,
    },
  };
  readonly #options: PropolisOptions;
  readonly #host: HostRunner;
  readonly #config: { readonly binary: string; readonly bootrom: string; readonly dataset: string };

  constructor(options: PropolisOptions) {
    this.#options = options;
    this.#host = new HostRunner(options.run ?? runCommand, options.isRoot ?? process.geteuid?.() === 0);
    this.#config = {
      binary: options.binary ?? DEFAULTS.binary,
      bootrom: options.bootrom ?? DEFAULTS.bootrom,
      dataset: options.dataset ?? DEFAULTS.dataset,
    };
  }

  async checkHost(context: StageContext, spec?: VmSpec): Promise<void> {
    await requireHost(this.#host, this.#config, context.signal);
    if (spec === undefined) return;
    checkSize(spec);
    await this.checkNetwork(spec, context.signal);
  }

  async checkNetwork(spec: VmSpec, signal?: AbortSignal): Promise<void> {
    const network = this.capabilities.networks[spec.network.kind];
    if (!network.supported) throw new VmctlError('UNSUPPORTED', `VM "${spec.name}": ${network.reason}`);
    const vnic = this.#vnicOf(spec);
    if (vnic !== null) await checkVnic(vnic, this.#host, signal);
  }

  async prepare(vm: ResolvedVm, options: PrepareOptions, context: StageContext): Promise<VmHandle> {
    const { spec, image } = vm;
    const { signal } = context;
    throwIfAborted(signal);
    diskSize(image, spec.diskBytes);
    // What a preparation that was killed has made outside of its directory.
    await this.#releaseParts(await readParts(options.staging));
    const uuid = randomUUID();
    const vnic = this.#vnicOf(spec);
    context.reporter.status('reading the image');
    const parts: Parts = {
      uuid,
      base: `${this.#config.dataset}/images/${(await digestOf(image, signal)).slice(0, 32)}`,
      disk: `${this.#config.dataset}/vms/${spec.name}-${uuid.slice(0, 8)}`,
      vnic: vnic === null ? null : { name: vnic.name, mac: vnic.mac },
      address: staticAddress(vm.seed?.rawNetworkConfig ?? null),
    };
    return Undo.around(context, (undo) =>
      buildWorkDirectory(options, async (directory) => {
        await writeParts(directory, parts);
        await writeSeed(directory, { vm, uuid, mac: parts.vnic?.mac ?? null });
        await writeGuestAccess(directory, vm);
        undo.add(`the disk ${parts.disk}`, () => this.#releaseParts(parts));
        context.reporter.status('writing the image to a volume');
        await this.#makeDisk(vm, parts, signal);
        const createdAt = new Date().toISOString();
        const mac = parts.vnic?.mac ?? null;
        return {
          name: spec.name,
          backend: 'propolis',
          directory: options.directory,
          uuid,
          mac,
          spec,
          image,
          createdAt,
        };
      }),
    );
  }

  /** The disk is a clone of a volume of this host; the image that it was made from may be gone. */
  async checkDisk(handle: VmHandle): Promise<void> {
    const { disk } = await this.#partsOf(handle);
    if ((await findVolume(disk, this.#host)) === null) throw diskMissing(handle, disk);
  }

  async start(vm: StoppedVm, context: StageContext): Promise<RunningVm> {
    const { handle } = vm;
    assertTransition(handle.name, (await this.observe(handle)).state, 'start');
    throwIfAborted(context.signal);
    const rest = await findServer(handle);
    if (rest !== null) await endServer(handle, handle.uuid, rest, this.#host);
    return Undo.around(context, async (undo) => {
      const vnic = this.#vnicOf(handle.spec);
      if (vnic !== null) {
        undo.add(`the VNIC ${vnic.name}`, () => removeVnic(vnic, this.#host));
        await attachVnic(vnic, this.#host, context.signal);
      }
      undo.add('propolis-server', async () => {
        const server = await findServer(handle);
        if (server !== null) await endServer(handle, handle.uuid, server, this.#host);
      });
      const server = await startServer(handle, { ...this.#config, host: this.#host });
      await awaitServer(handle, server, context.signal);
      await this.#boot(handle, server, context);
      const running = await this.observe(handle);
      if (running.state === 'running') return running;
      throw await startError(handle, `it is ${running.state} right after its start`);
    });
  }

  async stop(vm: RunningVm | SuspendedVm, options: StopOptions, context: StageContext): Promise<StopMethod> {
    const { handle } = vm;
    const observed = await this.observe(handle);
    assertTransition(handle.name, observed.state, 'stop');
    const server = await findServer(handle);
    const ended =
      server !== null && observed.state === 'running' && (await this.#askGuest(observed, server, options, context));
    if (!ended) context.reporter.status('ending the VM');
    const method = server === null ? 'guest' : await endServer(handle, handle.uuid, server, this.#host);
    const vnic = this.#vnicOf(handle.spec);
    if (vnic !== null) await removeVnic(vnic, this.#host);
    return ended ? 'guest' : method;
  }

  async suspend({ handle }: RunningVm): Promise<SuspendedVm> {
    throw cannotPause(handle.name, 'suspended');
  }

  async resume({ handle }: SuspendedVm): Promise<RunningVm> {
    throw cannotPause(handle.name, 'resumed');
  }

  async destroy(handle: VmHandle): Promise<void> {
    await this.discard(handle);
  }

  async discard(remains: VmRemains): Promise<void> {
    const parts = await readParts(remains.directory);
    const server = await findServer(remains);
    if (server !== null) await endServer(remains, parts?.uuid ?? null, server, this.#host);
    await this.#releaseParts(parts);
    await removeWorkDirectory(remains.directory);
  }

  async observe(handle: VmHandle): Promise<ObservedVm> {
    const server = await findServer(handle);
    if (server === null || !isLive(await stateOf(handle, server))) return { state: 'stopped', handle };
    const ssh = await this.#findSsh(handle);
    return { state: 'running', handle, pid: server.process.pid, ssh, forwards: [], accelerator: 'none' };
  }

  console(handle: VmHandle): ConsoleEndpoint {
    return { kind: 'stream', connect: (signal) => this.#openConsole(handle, signal) };
  }

  /** It has no such forwards. */
  async forwardTaken(): Promise<boolean> {
    return false;
  }

  async screenshot({ handle }: RunningVm | SuspendedVm): Promise<Uint8Array> {
    throw noScreen(handle.name, NO_SCREEN.reason);
  }

  examineHost(signal: AbortSignal): Promise<BackendFacts> {
    return examinePropolisHost(this.#host, this.#config, signal);
  }

  async findProcesses(vms: string): Promise<readonly WorkProcess[] | null> {
    // Elsewhere there are none.
    if ((this.#options.platform ?? process.platform) !== 'sunos') return [];
    const found: WorkProcess[] = [];
    for (const { pid } of await findByCommandLine((words) => words.includes('run') && words.some(isServerName))) {
      const directory = await readlink(`/proc/${pid}/path/cwd`).catch(() => null);
      if (directory === null || dirname(directory) !== vms || (await commandLineOf(pid)) === null) continue;
      found.push({ pid, vm: basename(directory), directory });
    }
    return found;
  }

  /** The volume of the image, once for all who stand on it, and that of the VM. */
  async #makeDisk({ image, spec }: ResolvedVm, parts: Parts, signal: AbortSignal): Promise<void> {
    await this.#withBase(
      parts,
      async () => {
        const work = { host: this.#host, signal };
        await makeBase(image, parts.base, work);
        await cloneDisk(parts, spec.diskBytes, work);
      },
      signal,
    );
  }

  /** Removes what a VM has outside of its directory; what is gone already is no failure. */
  async #releaseParts(parts: Parts | null): Promise<void> {
    if (parts === null) return;
    if (parts.vnic !== null) await removeVnic(parts.vnic, this.#host);
    await this.#withBase(parts, async () => {
      await removeVolume(parts.disk, this.#host);
      await releaseBase(parts.base, this.#host);
    });
  }

  /** Nobody else makes or removes this image meanwhile, nor takes it for there while it is going. */
  #withBase<T>({ base }: Parts, work: () => Promise<T>, signal?: AbortSignal): Promise<T> {
    const path = join(this.#options.locks, `volume-${basename(base)}.lock`);
    return withLock(path, { command: 'vmctl', ...(signal === undefined ? {} : { signal }) }, work);
  }

  async #partsOf(handle: VmHandle): Promise<Parts> {
    const parts = await readParts(handle.directory);
    if (parts !== null) return parts;
    throw new VmctlError(
      'VM_DAMAGED',
      `what VM "${handle.name}" stands on was written to a file that is gone or unreadable`,
      {
        hint: `Make it anew: vmctl destroy ${handle.name}, then vmctl up`,
        fields: { vm: handle.name, path: join(handle.directory, VM_FILES.propolisParts) },
      },
    );
  }

  async #boot(handle: VmHandle, server: LiveServer, { signal }: StageContext): Promise<void> {
    const parts = await this.#partsOf(handle);
    const seed = join(handle.directory, VM_FILES.seed);
    const request = ensureRequest(handle.spec, {
      uuid: handle.uuid,
      disk: rawDevice(parts.disk),
      seed: (await exists(seed)) ? seed : null,
      vnic: parts.vnic?.name ?? null,
    });
    const client = clientOf(handle, server.address, { signal });
    try {
      await client.ensure(request);
      await client.change('Run');
    } catch (error) {
      if (!(error instanceof VmctlError) || error.fields['status'] !== 500) throw error;
      throw await startError(handle, error.message, error);
    }
    const look = async () => {
      const state = (await client.instance())?.state ?? 'Failed';
      return state === 'Creating' || state === 'Starting' ? null : state;
    };
    const timeoutMs = this.#options.startTimeoutMs ?? START_TIMEOUT_MS;
    const state = await waitFor(look, { timeoutMs, signal });
    if (state === null) throw await startError(handle, `the VM did not come to run within ${timeoutMs / 1000} s`);
    if (!isLive(state)) throw await startError(handle, `the VM is ${state} right after its start`);
  }

  /** Asks over SSH until the guest has powered off; false when the grace is over first, or nobody can be asked. */
  async #askGuest(
    { handle }: RunningVm,
    server: LiveServer,
    { graceMs }: StopOptions,
    { signal, reporter }: StageContext,
  ): Promise<boolean> {
    const { powerOff } = this.#options;
    const deadline = performance.now() + graceMs;
    if (graceMs <= 0 || powerOff === undefined || !handle.spec.ssh.declared) return false;
    reporter.status(`asking the guest to power off, ${Math.ceil(graceMs / 1000)} s at most`);
    const stop = AbortSignal.any([signal, AbortSignal.timeout(Math.ceil(graceMs))]);
    // A guest that is still booting answers later; one that is going down already does not any more.
    const ask = async (): Promise<'asked' | 'ended' | null> => {
      if (await awaitEnd(handle, server, { timeoutMs: 0 })) return 'ended';
      const ssh = await this.#findSsh(handle);
      if (ssh === null) return null;
      return powerOff(handle, ssh, stop).then(
        () => 'asked',
        () => null,
      );
    };
    const asked = await waitFor(ask, { timeoutMs: graceMs, signal });
    if (asked !== 'asked') return asked === 'ended';
    return awaitEnd(handle, server, { timeoutMs: Math.max(0, deadline - performance.now()), signal });
  }

  /** The address that the user gave it, or the one under which this host has lately heard of it. */
  async #findSsh({ mac, directory }: VmHandle): Promise<Endpoint | null> {
    if (mac === null) return null;
    const given = (await readParts(directory))?.address ?? null;
    const heard = async () =>
      this.#host.look(['arp', '-an']).then(
        ({ stdout }) => findInArp(stdout, mac),
        () => null,
      );
    const host = given ?? (await heard());
    return host === null ? null : { host, port: SSH_PORT };
  }

  async #openConsole(handle: VmHandle, signal: AbortSignal): Promise<Duplex> {
    const server = await findServer(handle);
    if (server === null) {
      throw new VmctlError('VM_STATE', `VM "${handle.name}" is stopped`, { fields: { vm: handle.name } });
    }
    const { openConsole } = await import('./console.js');
    return openConsole({ vm: handle.name, address: server.address, signal });
  }

  #vnicOf({ name, project, network }: VmSpec): { name: string; mac: string; over: string | null } | null {
    if (network.kind === 'none') return null;
    const over = this.#options.link ?? null;
    // Only where the check of the host was left out can it be of another kind.
    if (network.kind !== 'vnic')
      throw new VmctlError('UNSUPPORTED', `VM "${name}": ${this.#reasonAgainst(network.kind)}`);
    return { name: network.vnic, mac: stableMac(project, name), over };
  }

  #reasonAgainst(kind: 'user' | 'tap'): string {
    const network = this.capabilities.networks[kind];
    return network.supported ? '' : network.reason;
  }
}

function cannotPause(name: string, what: 'suspended' | 'resumed'): VmctlError {
  return new VmctlError('UNSUPPORTED', `VM "${name}" cannot be ${what}: ${NO_SUSPEND.reason}`, {
    fields: { vm: name },
  });
}

async function writeSeed(
  directory: string,
  { vm, uuid, mac }: { readonly vm: ResolvedVm; readonly uuid: string; readonly mac: string | null },
): Promise<void> {
  if (vm.seed === null) return;
  const iso = buildIso({ volume: SEED_VOLUME, files: seedFiles(vm.seed, { instanceId: uuid, mac }) });
  await writeFile(join(directory, VM_FILES.seed), iso, { mode: PRIVATE_FILE_MODE });
}

const isServerName = (word: string): boolean => basename(word) === DEFAULTS.binary;
