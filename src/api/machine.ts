/** One VM as the API's objects share it: what was seen of it last, the one connection to it, and what changes it. */
import { join } from 'node:path';
import type { TaskEnvironment } from '../../tasks/context.js';
import { type CableChange, cableTasks } from '../../tasks/cable.js';
import { crashTasks } from '../../tasks/crash.js';
import { downTasks } from '../../tasks/down.js';
import { resumeTasks, suspendTasks } from '../../tasks/pause.js';
import { type RebootOptions, rebootTasks } from '../../tasks/reboot.js';
import { resetTasks } from '../../tasks/reset.js';
import { runTasks } from '../../tasks/run.js';
import { reachableVm } from '../../tasks/select-vm.js';
import { type SshLogin, sshLogin } from '../../tasks/ssh-login.js';
import { sshAccess } from '../../tasks/access.js';
import { deleteTasks, restoreTasks, snapshotTasks } from '../../tasks/snapshot.js';
import { startTasks } from '../../tasks/start-again.js';
import { suspendToDiskTasks } from '../../tasks/suspended.js';
import type { TaskGraph } from '../../tasks/up.js';
import { VmctlError } from '../errors.js';
import { type LanPlace, lanOf, lanPlace } from '../model/lan.js';
import type { Endpoint, ObservedVm, RunningVm } from '../model/vm.js';
import { VM_FILES } from '../paths.js';
import type { RegistryEntry } from '../registry.js';
import { type SshConnection, connectSsh } from '../ssh/client.js';
import { throwIfAborted, unlessAborted } from '../util/wait.js';

export class Machine {
  readonly name: string;
  readonly env: TaskEnvironment;
  readonly entry: RegistryEntry;
  #seen: ObservedVm | null = null;
  #login: SshLogin | null = null;
  #connection: Promise<SshConnection> | null = null;
  #closed = new AbortController();

  /** What this does is told nobody, and cancelled by its own options alone. */
  constructor(env: TaskEnvironment, entry: RegistryEntry) {
    this.name = entry.name;
    this.env = { ...env, signal: new AbortController().signal };
    this.entry = entry;
  }

  /** Looks at the VM; from now on this is what is known of it. */
  async look(): Promise<ObservedVm> {
    const { registry, hypervisor, home } = this.env;
    const observed = await hypervisor.observe(await registry.handle(this.entry));
    this.#seen = observed;
    const { guestAccess } = hypervisor.capabilitiesOf(observed.handle);
    const endpoint = observed.state === 'running' && guestAccess.supported ? observed.ssh : null;
    this.#login = endpoint === null ? null : await sshLogin(observed.handle, endpoint, { home });
    return observed;
  }

  /** How to log in; null where that is not possible. */
  get login(): SshLogin | null {
    return this.#login;
  }

  get forwards(): readonly { readonly host: number; readonly guest: number }[] {
    return this.#seen === null || this.#seen.state === 'stopped' ? [] : this.#seen.forwards;
  }

  get lan(): LanPlace | null {
    return this.#seen === null ? null : lanPlace(lanOf(this.#seen.handle.spec));
  }

  forwardOf(guest: number): Endpoint | null {
    const found = this.forwards.find((forward) => forward.guest === guest);
    return found === undefined ? null : { host: '127.0.0.1', port: found.host };
  }

  /** Absolute path of one of the VM's files. */
  file(name: keyof typeof VM_FILES): string {
    return join(this.entry.directory, VM_FILES[name]);
  }

  /** The VM as it was looked at last. Throws `VM_STATE` when it was not running then. */
  assertRunning(): RunningVm {
    if (this.#seen?.state === 'running') return this.#seen;
    throw new VmctlError('VM_STATE', `VM "${this.name}" is ${this.#seen?.state ?? 'destroyed'}`, {
      hint: 'The object that start() or resume() gave for it can do that.',
      fields: { vm: this.name },
    });
  }

  /** The one connection, made when it is needed, and again after it broke off. Throws as `connectSsh`, and `VM_STATE`. */
  async connection(signal?: AbortSignal): Promise<SshConnection> {
    throwIfAborted(signal);
    this.assertRunning();
    this.#connection ??= this.#connect();
    return signal === undefined ? this.#connection : unlessAborted(this.#connection, signal);
  }

  #connect(): Promise<SshConnection> {
    const connecting = (async () => {
      const { vm, endpoint } = await reachableVm(this.env, this.entry);
      const access = await sshAccess(vm.handle, { home: this.env.home });
      return connectSsh({ ...access, endpoint }, { signal: this.#closed.signal, background: true });
    })();
    const forget = (): void => {
      if (this.#connection === connecting) this.#connection = null;
    };
    connecting.then(({ closed }) => closed.then(forget), forget);
    return connecting;
  }

  /** Closes the connection; the next command makes another one. */
  async close(): Promise<void> {
    const connecting = this.#connection;
    this.#connection = null;
    this.#closed.abort();
    this.#closed = new AbortController();
    const connection = await connecting?.catch(() => null);
    await connection?.close();
  }

  async stop(graceMs: number): Promise<void> {
    await this.close();
    await this.#act(await downTasks(this.env, { entries: [this.entry], destroy: false, graceMs }));
    await this.look();
  }

  /** Starts it, and waits until it can be used. */
  async start(): Promise<void> {
    await this.#act(startTasks(this.env, [this.entry], { untilUsable: true }));
    await this.look();
  }

  /** Also of a VM that is stopped or suspended. */
  async reset(): Promise<void> {
    await this.close();
    await this.#act(resetTasks(this.env, [this.entry]));
    await this.look();
  }

  /** The connection is closed first, as for all that ends the process below the guest: the guest hears of it. */
  async snapshot(tag: string): Promise<void> {
    await this.close();
    await this.#act(snapshotTasks(this.env, { entry: this.entry, tag }));
    await this.look();
  }

  /** Also of a VM that is stopped or suspended. */
  async restore(tag: string): Promise<void> {
    await this.close();
    await this.#act(restoreTasks(this.env, { entry: this.entry, tag }));
    await this.look();
  }

  async deleteSnapshot(tag: string): Promise<void> {
    await this.#act(deleteTasks(this.env, { entry: this.entry, tag }));
  }

  async suspend(): Promise<void> {
    await this.#act(suspendTasks(this.env, [this.entry]));
    await this.look();
  }

  async suspendToDisk(): Promise<void> {
    await this.close();
    await this.#act(suspendToDiskTasks(this.env, [this.entry]));
    await this.look();
  }

  async resume(): Promise<void> {
    await this.#act(resumeTasks(this.env, [this.entry]));
    await this.look();
  }

  /** The connection is closed afterwards: a guest whose power is gone cannot say goodbye. */
  async crash(): Promise<void> {
    await this.#act(crashTasks(this.env, [this.entry]));
    await this.close();
    await this.look();
  }

  async setCable(change: CableChange): Promise<void> {
    await this.#act(cableTasks(this.env, [this.entry], change));
    const vm = await this.look();
    // Commands over a cable that is out would wait for an answer that cannot come.
    if (vm.state !== 'stopped' && vm.unplugged.includes('outside')) await this.close();
  }

  async reboot(options: RebootOptions): Promise<void> {
    await this.close();
    await this.#act(rebootTasks(this.env, [this.entry], options));
    await this.look();
  }

  async destroy(): Promise<void> {
    await this.close();
    await this.#act(await downTasks(this.env, { entries: [this.entry], destroy: true, graceMs: 0 }));
    this.#seen = null;
    this.#login = null;
  }

  /** Runs a graph of this one VM; throws what went wrong. */
  async #act(graph: TaskGraph): Promise<void> {
    await runTasks(graph.tasks, { view: 'silent' });
    const outcome = await graph.runs.get(this.name)?.ended;
    if (outcome?.result === 'failed') throw outcome.error;
  }
}
