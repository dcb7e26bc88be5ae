/** Ready: what `ready` of a VMFile waits for, looked at in the guest from everywhere that is possible. */
import { join } from 'node:path';
import { VmctlError } from '../src/errors.js';
import type { StageContext } from '../src/model/event.js';
import { type ReadySpec, type VmSpec, conditionTitle } from '../src/model/spec.js';
import type { RunningVm, SuspendedVm, VmHandle } from '../src/model/vm.js';
import { VM_FILES } from '../src/paths.js';
import { type ConditionWorld, type Route, waitForConditions } from '../src/provision/conditions.js';
import type { RegistryEntry, VmRecord } from '../src/registry.js';
import type { SshConnection } from '../src/ssh/client.js';
import { FROZEN_CONSOLE } from '../src/warm/store.js';
import { sshAccess } from './access.js';
import { assertPluggedIn } from './cable.js';
import type { TaskEnvironment } from './context.js';

/** As long as for the first login: where nobody can log in, this is the time in which the guest boots. */
const READY_SECONDS = 120;
const READY_SECONDS_EMULATED = 480;

/** How long is waited for a guest, for whatever of it, where nobody says. */
export function defaultWaitSeconds(vm: RunningVm): number {
  return vm.accelerator === 'tcg' ? READY_SECONDS_EMULATED : READY_SECONDS;
}

/** Whether somebody is to be able to log in. */
export function hasLogin({ ssh, network }: VmSpec): boolean {
  return ssh.declared && network.kind !== 'none';
}

export interface ReadyJob {
  readonly vm: RunningVm;
  readonly entry: RegistryEntry;
  /** What the VMFile declares now. */
  readonly spec: VmSpec;
  /** A connection that is there already, and stays the caller's. */
  readonly connection: SshConnection | null;
}

/**
 * Waits until all that `ready` declares holds, and records since when; does nothing where it declares nothing. Throws as
 * `waitForConditions`. The caller holds the VM's lock.
 */
export async function awaitReady(env: TaskEnvironment, job: ReadyJob, context: StageContext): Promise<void> {
  const { vm, entry, spec } = job;
  const { ready } = spec;
  if (ready === null) return env.registry.updateRecord(entry, { ready: null });
  await env.registry.updateRecord(entry, { ready: { ...ready, since: null } });
  if (env.hypervisor.capabilitiesOf(vm.handle).guestAccess.supported) await look(env, { ...job, ready }, context);
  else pretend(ready, context);
  await env.registry.updateRecord(entry, { ready: { ...ready, since: new Date().toISOString() } });
}

/**
 * The same for a VM that was started without its VMFile: where an `up` has waited for it to be ready, as that `up` did.
 * One that was never provisioned may never be.
 */
export async function awaitReadyAgain(
  env: TaskEnvironment,
  job: Omit<ReadyJob, 'spec'>,
  context: StageContext,
): Promise<void> {
  const { ready = null } = await env.registry.record(job.entry);
  if (ready !== null) await awaitReady(env, { ...job, spec: { ...job.vm.handle.spec, ready } }, context);
}

async function look(
  env: TaskEnvironment,
  job: ReadyJob & { readonly ready: ReadySpec },
  context: StageContext,
): Promise<void> {
  const { vm, entry, spec, ready } = job;
  await using login = hasLogin(spec) ? new SharedLogin(job.connection, () => logIn(env, job, context.signal)) : null;
  const { consoleStart } = await env.registry.record(entry);
  const connection = login === null ? null : () => login.get();
  await waitForConditions(ready.conditions, conditionWorld(env, vm, { connection, consoleStart }), {
    timeoutMs: (ready.timeoutSeconds ?? defaultWaitSeconds(vm)) * 1000,
    signal: context.signal,
    onWaiting: (left) => {
      if (left.length === 0) return;
      const text = `waiting until ready: ${left.map(conditionTitle).join(', ')}`;
      context.reporter.status(text, { kind: 'waiting', on: 'guest' });
    },
  });
}

/** What of a VM is looked at, and how. */
export function conditionWorld(
  env: TaskEnvironment,
  vm: RunningVm,
  { connection, consoleStart }: Pick<ConditionWorld, 'connection'> & Pick<VmRecord, 'consoleStart'>,
): ConditionWorld {
  const { handle } = vm;
  const { from, frozen } = consoleStart ?? { from: 0, frozen: null };
  return {
    name: handle.name,
    connection,
    route: (port) => routeTo(env, { vm, port, direct: connection === null }),
    consoleLog: join(handle.directory, VM_FILES.consoleLog),
    consoleFrom: from,
    consoleBefore: frozen === null ? null : join(env.paths.frozen(frozen), FROZEN_CONSOLE),
    catchUpConsole: () => env.hypervisor.catchUpConsole(handle),
    stillRunning: () => stillRuns(env, handle),
  };
}

/** False when it has stopped. Throws when it is paused. */
export async function stillRuns(env: TaskEnvironment, handle: VmHandle): Promise<boolean> {
  const now = await env.hypervisor.observe(handle);
  if (now.state === 'suspended') throw pausedError(handle.name, now);
  return now.state === 'running';
}

/** A paused guest answers nobody, so there is no sense in waiting for it. */
export function pausedError(name: string, vm: SuspendedVm): VmctlError {
  const byDisk = vm.pausedBy === 'disk-error';
  const why = byDisk ? 'the host’s disk refused a write; it is probably full' : 'somebody suspended it';
  return new VmctlError('VM_STATE', `VM "${name}" was paused while it was waited for: ${why}`, {
    hint: `${byDisk ? 'Free some space, then' : 'To continue,'} run: vmctl up ${name}`,
    fields: { vm: name, state: vm.state },
  });
}

/** `direct`: also to the guest's own address, where it has one. */
async function routeTo(
  { hypervisor }: TaskEnvironment,
  { vm, port, direct }: { readonly vm: RunningVm; readonly port: number; readonly direct: boolean },
): Promise<Route | null> {
  const { handle } = vm;
  const forward = vm.forwards.find(({ guest }) => guest === port);
  if (forward !== undefined) {
    const taken = () => hypervisor.forwardTaken(handle, forward.host);
    return { host: '127.0.0.1', port: forward.host, taken };
  }
  if (!direct || handle.spec.network.kind === 'user') return null;
  const now = await hypervisor.observe(handle);
  const address = now.state === 'stopped' ? null : now.ssh;
  return address === null ? null : { host: address.host, port, taken: null };
}

/** One connection for all conditions: the one that was there, and another one when that has broken off. */
class SharedLogin implements AsyncDisposable {
  readonly #connect: () => Promise<SshConnection>;
  #current: Promise<SshConnection> | null = null;
  #own: Promise<SshConnection> | null = null;

  constructor(first: SshConnection | null, connect: () => Promise<SshConnection>) {
    this.#connect = connect;
    if (first !== null) void this.#take(Promise.resolve(first));
  }

  get(): Promise<SshConnection> {
    if (this.#current !== null) return this.#current;
    this.#own = this.#connect();
    return this.#take(this.#own);
  }

  #take(connecting: Promise<SshConnection>): Promise<SshConnection> {
    this.#current = connecting;
    const forget = (): void => {
      if (this.#current === connecting) this.#current = null;
    };
    connecting.then(({ closed }) => closed.then(forget), forget);
    return connecting;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const connection = await this.#own?.catch(() => null);
    await connection?.close();
  }
}

async function logIn(env: TaskEnvironment, { vm, spec }: ReadyJob, signal: AbortSignal): Promise<SshConnection> {
  const { handle } = vm;
  const now = await env.hypervisor.observe(handle);
  assertPluggedIn(now);
  const endpoint = now.state === 'stopped' ? null : now.ssh;
  if (endpoint === null) throw new VmctlError('SSH_TRANSPORT', 'the address of the guest is not known');
  const access = await sshAccess({ ...handle, spec: { ...handle.spec, ssh: spec.ssh } }, { home: env.home });
  // Loaded when it is needed, as in provision.ts.
  const { connectSsh } = await import('../src/ssh/client.js');
  return connectSsh({ ...access, endpoint }, { signal });
}

/** Where there is no guest, each condition is told and taken to hold. */
function pretend({ conditions }: ReadySpec, { reporter }: StageContext): void {
  for (const condition of conditions) {
    reporter.log(`ready: ${conditionTitle(condition)} (not looked at: this backend has no guests)`);
  }
}

/** What a VM is waited for, and since when it holds; null where it is nothing. Before the first `up`, as it was made. */
export function readyStatus(made: VmSpec, record: VmRecord) {
  const ready = record.ready === undefined && made.ready !== null ? { ...made.ready, since: null } : record.ready;
  if (ready === undefined || ready === null) return null;
  return { conditions: ready.conditions.map(conditionTitle), since: ready.since };
}
