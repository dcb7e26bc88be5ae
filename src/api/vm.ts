/** The VM objects: what each state lets somebody do, over the one machine behind them. */
import { inspectVm } from '../../tasks/inspect.js';
import { copyBetween } from '../../tasks/copy.js';
import { conditionWorld, readyStatus } from '../../tasks/ready.js';
import { takeScreenshot } from '../../tasks/screenshot.js';
import { snapshotsOf } from '../../tasks/snapshot.js';
import { sshCommand } from '../../tasks/ssh-login.js';
import { VmctlError } from '../errors.js';
import { lanOf, lanPlace } from '../model/lan.js';
import { waitForConditions } from '../provision/conditions.js';
import { exec, spawn } from './command.js';
import { guestCondition } from './condition.js';
import { milliseconds } from './duration.js';
import { logLines } from './log.js';
import type { Machine } from './machine.js';
import type { VmConnection } from './types.js';
import type {
  AnyVm,
  CopyOptions,
  RunningVm,
  SavedVm,
  SshDetails,
  StoppedVm,
  SuspendedVm,
  VmSnapshot,
  VmStatus,
} from './vm-types.js';

const STOP_GRACE_MS = 30_000;
const WAIT_MS = 60_000;

type StopOptions = Parameters<RunningVm['stop']>[0];

function anyVm(machine: Machine): AnyVm {
  return {
    name: machine.name,
    lan: machine.lan,
    status: () => statusOf(machine),
    log: (kind = 'console', options = {}) => logLines(machine, kind, options),
    restore: async (tag) => {
      await machine.restore(tag);
      return runningVm(machine);
    },
    snapshots: () => snapshotsIn(machine),
    deleteSnapshot: (tag) => machine.deleteSnapshot(tag),
    destroy: () => machine.destroy(),
  };
}

export function runningVm(machine: Machine): RunningVm {
  return {
    ...anyVm(machine),
    state: 'running',
    get ssh() {
      return sshDetails(machine);
    },
    port: (guest) => portOf(machine, guest),
    exec: (command, options) => exec(machine, command, options),
    spawn: (command, options) => spawn(machine, command, options),
    copyTo: (local, guest, options) => copy(machine, { direction: 'in', local, remote: guest }, options),
    copyFrom: (guest, local, options) => copy(machine, { direction: 'out', local, remote: guest }, options),
    waitFor: async (condition, { timeout = WAIT_MS, signal = new AbortController().signal } = {}) => {
      const vm = machine.assertRunning();
      const { guestAccess } = machine.env.hypervisor.capabilitiesOf(vm.handle);
      if (!guestAccess.supported) {
        throw new VmctlError('UNSUPPORTED', `VM "${machine.name}" has nothing to wait for: ${guestAccess.reason}`);
      }
      const { consoleStart } = await machine.env.registry.record(machine.entry);
      const connection = machine.login === null ? null : () => machine.connection(signal);
      const world = conditionWorld(machine.env, vm, { connection, consoleStart });
      const options = { timeoutMs: milliseconds(timeout, 'timeout'), signal };
      await waitForConditions([guestCondition(condition)], world, options);
    },
    screenshot: () => takeScreenshot(machine.env, machine.entry),
    stop: (options) => stop(machine, options),
    suspend: suspendOf(machine),
    pause: () => pause(machine),
    snapshot: (tag) => machine.snapshot(tag),
    crash: () => crash(machine),
    disconnect: (nic) => machine.setCable({ nic: nic ?? null, up: false }),
    connect: (nic) => machine.setCable({ nic: nic ?? null, up: true }),
    reset: async () => {
      await machine.reset();
      return runningVm(machine);
    },
    reboot: async (options) => {
      await machine.reboot({ hard: options?.hard ?? false, graceMs: graceOf(options) });
      return runningVm(machine);
    },
  };
}

function suspendedVm(machine: Machine): SuspendedVm {
  return {
    ...anyVm(machine),
    state: 'suspended',
    resume: async () => {
      await machine.resume();
      return runningVm(machine);
    },
    suspend: () => saveToDisk(machine),
    stop: (options) => stop(machine, options),
    crash: () => crash(machine),
  };
}

function savedVm(machine: Machine): SavedVm {
  return {
    ...anyVm(machine),
    state: 'saved',
    resume: async () => {
      await machine.resume();
      return runningVm(machine);
    },
    stop: () => stop(machine, {}),
  };
}

function stoppedVm(machine: Machine): StoppedVm {
  return {
    ...anyVm(machine),
    state: 'stopped',
    start: async () => {
      await machine.start();
      return runningVm(machine);
    },
  };
}

async function stop(machine: Machine, options: StopOptions): Promise<StoppedVm> {
  await machine.stop(graceOf(options));
  return stoppedVm(machine);
}

/** What it gives is told by its options. */
function suspendOf(machine: Machine): RunningVm['suspend'] {
  function suspend(options?: { readonly toDisk?: false | undefined }): Promise<SuspendedVm>;
  function suspend(options: { readonly toDisk: true }): Promise<SavedVm>;
  function suspend({ toDisk = false }: { readonly toDisk?: boolean | undefined } = {}) {
    return toDisk ? saveToDisk(machine) : pause(machine);
  }
  return suspend;
}

async function pause(machine: Machine): Promise<SuspendedVm> {
  await machine.suspend();
  return suspendedVm(machine);
}

async function saveToDisk(machine: Machine): Promise<SavedVm> {
  await machine.suspendToDisk();
  return savedVm(machine);
}

async function crash(machine: Machine): Promise<StoppedVm> {
  await machine.crash();
  return stoppedVm(machine);
}

function graceOf(options: StopOptions): number {
  return milliseconds(options?.grace ?? STOP_GRACE_MS, 'grace');
}

async function statusOf({ env, entry }: Machine): Promise<VmStatus> {
  const found = await inspectVm(env, entry);
  if ('problem' in found) throw new VmctlError('VM_DAMAGED', found.problem, { fields: { vm: entry.name } });
  const { observed, record, powerCutAt, suspendedAt } = found;
  const live = observed.state === 'stopped' ? null : observed;
  return {
    name: entry.name,
    state: observed.state,
    backend: entry.backend,
    pid: live?.pid ?? null,
    accelerator: live?.accelerator ?? null,
    forwards: live?.forwards ?? [],
    unplugged: live?.unplugged ?? [],
    powerCutAt,
    suspendedAt,
    lan: lanPlace(lanOf(observed.handle.spec)),
    provisioning: record.provisioning,
    ready: readyStatus(found.handle.spec, record),
    lastFailure: record.lastFailure,
    directory: entry.directory,
  };
}

/** Throws `VM_NOT_FOUND` for a VM that is gone. */
async function snapshotsIn({ env, entry }: Machine): Promise<readonly VmSnapshot[]> {
  await env.registry.handle(entry);
  return (await snapshotsOf([entry])).map(({ tag, takenAt, bytes }) => ({ tag, takenAt, bytes }));
}

function sshDetails(machine: Machine): SshDetails {
  machine.assertRunning();
  const { login } = machine;
  if (login === null) {
    throw new VmctlError('UNSUPPORTED', `VM "${machine.name}" cannot be logged in to`, {
      hint: 'It needs a backend with guests, and a network that reaches its SSH, such as network "user".',
      fields: { vm: machine.name },
    });
  }
  return { ...connectionOf(login), command: sshCommand(login) };
}

function connectionOf({ endpoint, user, identities, knownHosts }: NonNullable<Machine['login']>) {
  const [identityFile = ''] = identities;
  return { ...endpoint, user, identityFile, identityFiles: identities, knownHosts };
}

/** What another process is told of a VM. */
export function vmConnection({ name, login, forwards }: Machine): VmConnection {
  return { ssh: login === null ? null : { ...connectionOf(login), hostKeyAlias: name }, forwards };
}

function portOf(machine: Machine, guest: number): number {
  machine.assertRunning();
  const endpoint = machine.forwardOf(guest);
  if (endpoint !== null) return endpoint.port;
  throw new VmctlError('USAGE', `no port of this host leads to port ${guest} of VM "${machine.name}"`, {
    hint: `Declare it in the VMFile: network "user" { forward 0 ${guest} }`,
    fields: { vm: machine.name, port: guest },
  });
}

async function copy(
  machine: Machine,
  request: { readonly direction: 'in' | 'out'; readonly local: string; readonly remote: string },
  { signal, onProgress }: CopyOptions = {},
) {
  const connection = await machine.connection(signal);
  const options = {
    ...(signal === undefined ? {} : { signal }),
    ...(onProgress === undefined ? {} : { onProgress }),
  };
  const { name, env } = machine;
  const { files, bytes, destination } = await copyBetween(connection, { ...request, name, cwd: env.cwd }, options);
  return { files, bytes, destination };
}
