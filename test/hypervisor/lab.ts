/** A state directory with a backend, where VMs come to life; at the end nothing of them is left. */
import { createHash } from 'node:crypto';
import { mkdir, readFile, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Hypervisor } from '../../src/hypervisor/hypervisor.js';
import { NoopBackend, type NoopOptions } from '../../src/hypervisor/noop.js';
import { PropolisBackend } from '../../src/hypervisor/propolis/backend.js';
import type { PropolisOptions } from '../../src/hypervisor/propolis/options.js';
import { QemuBackend, type QemuOptions } from '../../src/hypervisor/qemu/backend.js';
import type { StageContext } from '../../src/model/event.js';
import type { NetworkSpec, VmSpec } from '../../src/model/spec.js';
import type { BaseImage, ResolvedVm, RunningVm, VmHandle } from '../../src/model/vm.js';
import { type StatePaths, VM_FILES, statePaths } from '../../src/paths.js';
import { runCommand } from '../../src/util/exec.js';
import { type ProcessIdentity, findByCommandLine, signalProcess } from '../../src/util/process.js';
import { quiet, resolvedVm, temporaryDirectory } from '../support/fixtures.js';
import type { HostOptions } from '../support/propolis-host.js';
import { type PropolisWorld, openPropolisWorld } from '../support/propolis-world.js';
import { awaitEnd, qemuBinary } from './real-qemu.js';

export interface Lab extends AsyncDisposable {
  readonly backend: Hypervisor;
  readonly paths: StatePaths;
  readonly image: BaseImage;
  prepare(changes?: Partial<VmSpec>, context?: StageContext): Promise<VmHandle>;
  /** The same of a VM that starts from a frozen one. */
  prepareFrozen(folder: string, changes: Partial<VmSpec>): Promise<VmHandle>;
  /** Prepares and starts. */
  run(changes?: Partial<VmSpec>): Promise<RunningVm>;
  /** The living processes of a VM. */
  processes(handle: VmHandle): Promise<readonly ProcessIdentity[]>;
  /** What is in the folder of the VMs, those under construction included. */
  left(): Promise<readonly string[]>;
  /** What VMs have outside of that folder. */
  elsewhere(): readonly string[];
}

export interface LabOptions {
  /** Goes into the path of every VM. */
  readonly folder?: string;
}

export async function openNoopLab(options: LabOptions & NoopOptions = {}): Promise<Lab> {
  return openLab(new NoopBackend(options), options);
}

/** Guests are emulated, which every host can do, and have no operating system: they run, and do nothing. */
export async function openQemuLab(options: LabOptions & Partial<QemuOptions> = {}): Promise<Lab> {
  const { folder = '.', ...changes } = options;
  return openLab(
    new QemuBackend({
      binary: await qemuBinary(),
      extraArguments: [],
      accelerator: 'tcg',
      hostFile: '/nonexistent/host.json',
      searchPath: '',
      ...changes,
    }),
    { folder },
  );
}

export type PropolisLab = Lab & Pick<PropolisWorld, 'host' | 'behave'>;

/** A host whose commands are fakes, with real processes for servers without VMs in them. */
export async function openPropolisLab(
  options: LabOptions & Partial<PropolisOptions> & { readonly host?: HostOptions } = {},
): Promise<PropolisLab> {
  const { folder = '.', host: hostOptions, ...changes } = options;
  const world = await openPropolisWorld(hostOptions);
  const { host, behave } = world;
  const backend = new PropolisBackend({ locks: join(world.folder, 'locks'), ...world.options, ...changes });
  const lab = await openLab(backend, {
    folder,
    network: { kind: 'vnic', vnic: 'vnic0' },
    processes: () => world.servers(),
    also: () => host.left(),
  });
  return {
    ...lab,
    host,
    behave,
    [Symbol.asyncDispose]: async () => {
      await lab[Symbol.asyncDispose]();
      await world[Symbol.asyncDispose]();
    },
  };
}

/** What is different about the VMs of a backend. */
interface Peculiarities extends LabOptions {
  /** Default that of `vmSpec`. */
  readonly network?: NetworkSpec;
  readonly processes?: Lab['processes'];
  /** What VMs leave elsewhere. */
  readonly also?: () => readonly string[];
}

/** A VM that is up in a fraction of a second. */
const SMALL = { vcpus: 1, memoryMib: 64 } as const;

async function openLab(backend: Hypervisor, peculiarities: Peculiarities): Promise<Lab> {
  const { folder = '.', network, processes = qemusOf, also = () => [] } = peculiarities;
  const directory = await temporaryDirectory();
  const root = join(directory.path, folder);
  const paths = statePaths(join(root, 'vmctl'));
  await mkdir(root, { recursive: true });
  const image: BaseImage = { path: join(root, 'base.qcow2'), format: 'qcow2', virtualBytes: 8 * 1024 ** 2 };
  await runCommand('qemu-img', ['create', '-q', '-f', 'qcow2', image.path, String(image.virtualBytes)]);
  const handles: VmHandle[] = [];
  const resolved = (changes: Partial<VmSpec>): ResolvedVm =>
    resolvedVm(image, { ...SMALL, ...(network === undefined ? {} : { network }), ...changes });
  const places = ({ name }: VmSpec) => ({ directory: paths.vm(name), staging: paths.vmStaging(name) });
  const added = (handle: VmHandle): VmHandle => {
    handles.push(handle);
    return handle;
  };
  const prepare = async (changes: Partial<VmSpec> = {}, context = quiet): Promise<VmHandle> => {
    const vm = resolved(changes);
    return added(await backend.prepare(vm, places(vm.spec), context));
  };
  return {
    backend,
    paths,
    image,
    prepare,
    prepareFrozen: async (frozen, changes) => {
      const { spec } = resolved(changes);
      return added(await backend.prepareFrozen(spec, frozen, places(spec), quiet));
    },
    run: async (changes) => backend.start({ state: 'stopped', handle: await prepare(changes) }, quiet),
    processes,
    left: () => readdir(paths.vms).catch(() => []),
    elsewhere: also,
    [Symbol.asyncDispose]: async () => {
      for (const handle of handles) {
        for (const qemu of await processes(handle)) {
          await signalProcess(qemu, 'SIGKILL');
          await awaitEnd(qemu.pid);
        }
      }
      await rm(root, { recursive: true, force: true });
      await directory[Symbol.asyncDispose]();
    },
  };
}

const qemusOf: Lab['processes'] = ({ uuid }) =>
  findByCommandLine((words) => words[words.indexOf('-uuid') + 1] === uuid);

export async function checksum(path: string): Promise<string> {
  return createHash('sha256')
    .update(await readFile(path))
    .digest('hex');
}

export const fileOf = (handle: VmHandle, name: keyof typeof VM_FILES): string => join(handle.directory, VM_FILES[name]);
