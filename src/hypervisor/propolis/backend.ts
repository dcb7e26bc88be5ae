/**
 * Propolis on illumos: one propolis-server for each VM, a ZFS clone for its disk, a VNIC for its network. It has been
 * tested against fakes of the published interface, and not yet on an illumos machine.
 *
 * No zone is made: a server runs where vmctl does, as it does under Propolis's own test framework. A zone of its own
 * would have another IP stack, so that a server in it is reached only over a second VNIC with an address on both sides,
 * and would need a brand that the host has; what it would shut in listens on 127.0.0.1 already.
 */
import { randomUUID } from 'node:crypto';
import { VmctlError } from '../../errors.js';
import { diskSize } from '../../image/qemu-img.js';
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
import { runCommand } from '../../util/exec.js';
import { throwIfAborted } from '../../util/wait.js';
import { diskMissing } from '../base-image.js';
import {
  type BackendFacts,
  type Capability,
  type ConsoleEndpoint,
  type Hypervisor,
  type PrepareOptions,
  type StopMethod,
  type StopOptions,
  type VmRemains,
  type WorkProcess,
  noMemorySnapshots,
  noScreen,
} from '../hypervisor.js';
import { buildWorkDirectory, removeWorkDirectory, writeGuestAccess } from '../work-directory.js';
import { consoleOf } from './attach.js';
import { type Estate, makeDisk, partsOf, planParts, releaseParts, vnicOf } from './belongings.js';
import { bootVm } from './boot.js';
import { fetchConsole } from './console-log.js';
import { findServersBelow, killFound } from './find-processes.js';
import { pressReset } from './faults.js';
import { findSsh } from './guest-address.js';
import { type HostConfig, examinePropolisHost, requireHost } from './host.js';
import { HostRunner } from './host-runner.js';
import { checkSize } from './instance-spec.js';
import {
  CAPABILITIES,
  DEFAULTS,
  type Limits,
  NO_LINKS,
  NO_SCREEN,
  NO_SNAPSHOTS,
  NO_SUSPEND,
  type PropolisOptions,
} from './options.js';
import { readParts, writeParts } from './parts.js';
import { askGuest } from './power-off.js';
import {
  type Ending,
  type Place,
  awaitServer,
  endServer,
  findServer,
  forgetServer,
  isLive,
  killServer,
  startError,
  startServer,
  stateOf,
} from './server.js';
import { writeSeed } from './seed-file.js';
import { Undo } from './undo.js';
import { type WantedVnic, attachVnic, checkVnic, removeVnic } from './vnic.js';
import { findVolume } from './volumes.js';

export class PropolisBackend implements Hypervisor {
  readonly kind = 'propolis';
  readonly capabilities = CAPABILITIES;
  readonly #options: PropolisOptions;
  readonly #host: HostRunner;
  readonly #config: HostConfig;
  readonly #estate: Estate;
  readonly #limits: Limits;

  constructor(options: PropolisOptions) {
    this.#options = options;
    this.#host = new HostRunner(options.run ?? runCommand, options.isRoot ?? process.geteuid?.() === 0);
    this.#config = {
      binary: options.binary ?? DEFAULTS.binary,
      bootrom: options.bootrom ?? DEFAULTS.bootrom,
      dataset: options.dataset ?? DEFAULTS.dataset,
    };
    this.#limits = { ...DEFAULTS.limits, ...options.limits };
    this.#estate = { host: this.#host, dataset: this.#config.dataset, locks: options.locks };
  }

  async checkHost(context: StageContext, spec?: VmSpec): Promise<void> {
    await requireHost(this.#host, this.#config, context.signal);
    if (spec === undefined) return;
    checkSize(spec);
    await this.checkNetwork(spec, context.signal);
  }

  async checkNetwork(spec: VmSpec, signal?: AbortSignal): Promise<void> {
    const vnic = this.#vnicOf(spec);
    if (vnic !== null) await checkVnic(vnic, this.#host, signal);
  }

  async prepare(vm: ResolvedVm, options: PrepareOptions, context: StageContext): Promise<VmHandle> {
    const { spec, image } = vm;
    const { signal } = context;
    throwIfAborted(signal);
    diskSize(image, spec.diskBytes);
    // What a preparation that was killed has made outside of its directory.
    await releaseParts(await readParts(options.staging), this.#estate);
    const uuid = randomUUID();
    context.reporter.status('reading the image');
    const parts = await planParts(vm, { uuid, dataset: this.#estate.dataset, signal });
    const mac = parts.vnic?.mac ?? null;
    const giveBack = [`the disk ${parts.disk}`, () => releaseParts(parts, this.#estate)] as const;
    return Undo.around(context, (undo) =>
      buildWorkDirectory(options, async (directory) => {
        await writeParts(directory, parts);
        await writeSeed(directory, { vm, uuid, mac });
        await writeGuestAccess(directory, vm);
        context.reporter.status('writing the image to a volume');
        // Before the directory goes, in which is written down what there is to remove.
        await Undo.around(context, async (inner) => {
          inner.add(...giveBack);
          await makeDisk(vm, parts, { estate: this.#estate, signal });
        });
        undo.add(...giveBack);
        const createdAt = new Date().toISOString();
        const { directory: place } = options;
        return { name: spec.name, backend: 'propolis', directory: place, uuid, mac, spec, image, createdAt };
      }),
    );
  }

  /** The disk is a clone of a volume of this host; the image that it was made from may be gone. */
  async checkDisk(handle: VmHandle): Promise<void> {
    const { disk } = await partsOf(handle);
    if ((await findVolume(disk, this.#host)) === null) throw diskMissing(handle, disk);
  }

  async start(vm: StoppedVm, context: StageContext): Promise<RunningVm> {
    const { handle } = vm;
    const { signal } = context;
    assertTransition(handle.name, (await this.observe(handle)).state, 'start');
    throwIfAborted(signal);
    await this.#endServer(handle, handle.uuid);
    return Undo.around(context, async (undo) => {
      const vnic = this.#vnicOf(handle.spec);
      if (vnic !== null) {
        undo.add(`the VNIC ${vnic.name}`, () => removeVnic(vnic, this.#host));
        await attachVnic(vnic, this.#host, signal);
      }
      undo.add('propolis-server', () => this.#endServer(handle, handle.uuid));
      const server = await startServer(handle, { ...this.#config, host: this.#host });
      await awaitServer(handle, server, { timeoutMs: this.#limits.readyMs, signal });
      await bootVm(handle, server, { ...this.#limits, signal });
      const running = await this.observe(handle);
      if (running.state === 'running') return running;
      throw await startError(handle, `it is ${running.state} right after its start`);
    });
  }

  async stop(vm: RunningVm | SuspendedVm, { graceMs }: StopOptions, context: StageContext): Promise<StopMethod> {
    const { handle } = vm;
    const observed = await this.observe(handle);
    assertTransition(handle.name, observed.state, 'stop');
    const server = await findServer(handle);
    const ending = this.#ending(handle, handle.uuid);
    const asking = { graceMs, powerOff: this.#options.powerOff, ...ending };
    const ended =
      server !== null && observed.state === 'running' && (await askGuest(observed, server, asking, context));
    if (!ended) context.reporter.status('ending the VM');
    const method = server === null ? 'guest' : await endServer(handle, server, ending);
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

  async crash({ handle }: RunningVm | SuspendedVm): Promise<void> {
    assertTransition(handle.name, (await this.observe(handle)).state, 'crash');
    const server = await findServer(handle);
    const ending = this.#ending(handle, handle.uuid);
    await ending.meanwhile();
    if (server !== null) await killServer(handle, server, ending);
    const vnic = this.#vnicOf(handle.spec);
    if (vnic !== null) await removeVnic(vnic, this.#host);
  }

  async reset({ handle }: RunningVm, context: StageContext): Promise<void> {
    assertTransition(handle.name, (await this.observe(handle)).state, 'reset');
    const server = await findServer(handle);
    if (server !== null) await pressReset(handle, server, context);
  }

  async setLink({ handle }: RunningVm | SuspendedVm): Promise<void> {
    throw new VmctlError('UNSUPPORTED', `a cable of VM "${handle.name}" cannot be unplugged: ${NO_LINKS.reason}`);
  }

  async reserveMemory(): Promise<Capability> {
    return NO_SNAPSHOTS;
  }

  async save({ handle }: RunningVm | SuspendedVm): Promise<SuspendedVm> {
    throw noMemorySnapshots(handle.name, NO_SNAPSHOTS.reason);
  }

  async freeze({ handle }: ObservedVm): Promise<StoppedVm> {
    throw noMemorySnapshots(handle.name, NO_SNAPSHOTS.reason);
  }

  async prepareFrozen(spec: VmSpec): Promise<VmHandle> {
    throw noMemorySnapshots(spec.name, NO_SNAPSHOTS.reason);
  }

  async branch({ handle }: StoppedVm): Promise<StoppedVm> {
    throw noMemorySnapshots(handle.name, NO_SNAPSHOTS.reason);
  }

  async stateFacts(): Promise<Readonly<Record<string, string>>> {
    return {};
  }

  async destroy(handle: VmHandle): Promise<void> {
    await this.discard(handle);
  }

  async discard(remains: VmRemains): Promise<void> {
    const parts = await readParts(remains.directory);
    await this.#endServer(remains, parts?.uuid ?? null);
    await releaseParts(parts, this.#estate);
    await removeWorkDirectory(remains.directory);
  }

  async observe(handle: VmHandle): Promise<ObservedVm> {
    const server = await findServer(handle);
    if (server === null || !isLive(await stateOf(handle, server))) return { state: 'stopped', handle };
    const ssh = await findSsh(handle, this.#host);
    return { state: 'running', handle, pid: server.process.pid, ssh, forwards: [], accelerator: 'none', unplugged: [] };
  }

  guestPort(): null {
    return null;
  }

  console(handle: VmHandle): ConsoleEndpoint {
    return consoleOf(handle);
  }

  async catchUpConsole(vm: Place, signal?: AbortSignal): Promise<boolean> {
    const server = await findServer(vm);
    if (server !== null) await fetchConsole(vm, server, { locks: this.#estate.locks, signal });
    return false;
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
    return (this.#options.platform ?? process.platform) === 'sunos' ? findServersBelow(vms) : [];
  }

  async killProcess(process: WorkProcess): Promise<void> {
    await killFound(process, this.#host);
  }

  #vnicOf(spec: VmSpec): WantedVnic | null {
    return vnicOf(spec, this.#options.link ?? null);
  }

  /** Ends a server that is there, or clears up after one that is not, with what its guest has printed in the log. */
  async #endServer(place: Place, uuid: string | null): Promise<void> {
    const server = await findServer(place);
    const ending = this.#ending(place, uuid);
    if (server === null) await forgetServer(place, ending);
    else await endServer(place, server, ending);
  }

  #ending(place: Place, uuid: string | null) {
    // A VM has to be ended also where there is no space left for its last words.
    const meanwhile = async () => void (await this.catchUpConsole(place).catch(() => null));
    return { uuid, host: this.#host, rundownMs: this.#limits.rundownMs, meanwhile } satisfies Ending;
  }
}

function cannotPause(name: string, what: 'suspended' | 'resumed'): VmctlError {
  return new VmctlError('UNSUPPORTED', `VM "${name}" cannot be ${what}: ${NO_SUSPEND.reason}`, {
    fields: { vm: name },
  });
}
