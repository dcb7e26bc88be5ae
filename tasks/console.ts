/** The serial console of a running VM, as a stream, for one at a time. */
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import { VmctlError, unreachable } from '../src/errors.js';
import type { ObservedVm, VmHandle } from '../src/model/vm.js';
import { VM_FILES } from '../src/paths.js';
import type { RegistryEntry } from '../src/registry.js';
import { readLast } from '../src/util/file-tail.js';
import { acquireLock, lockOwner } from '../src/util/lock.js';
import { connectUnixSocket } from '../src/util/unix-socket.js';
import { waitFor } from '../src/util/wait.js';
import type { TaskEnvironment } from './context.js';
import { recentLines } from './recent-lines.js';

/** An attached console. Disposing of it detaches, and lets the next one in. */
export interface OpenConsole extends AsyncDisposable {
  /** What the guest prints, and what it is to read; ends when the VM does. */
  readonly stream: Duplex;
  /** What was printed last, with an unfinished last line such as a prompt; without anything that moves a cursor. */
  readonly recent: string;
  /** A suspended guest neither prints nor reads. */
  readonly state: Exclude<ObservedVm['state'], 'stopped'>;
  /** Asked when the stream has ended: whether the VM has too. */
  hasStopped(): Promise<boolean>;
}

/** The lines that are shown to somebody who attaches, and the bytes of the log that they are looked for in. */
const RECENT_LINES = 10;
const RECENT_BYTES = 16 * 1024;

/**
 * Attaches to the VM's serial console. Throws `VM_STATE` when the VM is stopped or somebody else is attached,
 * `UNSUPPORTED` where the backend has no console, `VM_DAMAGED` when it cannot be reached.
 */
export async function openConsole(env: TaskEnvironment, entry: RegistryEntry): Promise<OpenConsole> {
  const handle = await env.registry.handle(entry);
  const { state } = await env.hypervisor.observe(handle);
  if (state === 'stopped') {
    throw new VmctlError('VM_STATE', `VM "${handle.name}" is stopped`, {
      hint: `Run: vmctl start ${handle.name}; what it printed before: vmctl log ${handle.name}`,
      fields: { vm: handle.name },
    });
  }
  const supported = env.hypervisor.capabilitiesOf(handle).console;
  if (!supported.supported) {
    throw new VmctlError('UNSUPPORTED', `VM "${handle.name}" has no serial console: ${supported.reason}`, {
      fields: { vm: handle.name },
    });
  }
  const release = await reserve(env, handle);
  try {
    const stream = await connect(env, handle);
    // Read after connecting: of what is printed meanwhile, some may be shown twice, and nothing is missed.
    const recent = await readRecent(env, handle).catch(() => '');
    return {
      stream,
      recent,
      state,
      hasStopped: () => hasStopped(env, handle),
      [Symbol.asyncDispose]: async () => {
        stream.destroy();
        await release();
      },
    };
  } catch (error) {
    await release();
    throw error;
  }
}

/** QEMU lets a second client connect and keeps it waiting in silence, so who is first holds a lock. */
async function reserve(env: TaskEnvironment, { name }: VmHandle): Promise<() => Promise<void>> {
  const { paths, command, signal } = env;
  const path = paths.consoleLock(name);
  try {
    return await acquireLock(path, { command, signal, timeoutMs: 0 });
  } catch (error) {
    if (!(error instanceof VmctlError) || error.code !== 'LOCK_TIMEOUT') throw error;
    const owner = await lockOwner(path);
    const pid = owner?.pid ?? null;
    const user = owner === null ? 'another process' : `"${owner.command}" (pid ${owner.pid})`;
    throw new VmctlError('VM_STATE', `the serial console of VM "${name}" is in use by ${user}`, {
      hint: `Detach there with Ctrl-], or only look on: vmctl log ${name} --follow`,
      cause: error,
      fields: { vm: name, pid },
    });
  }
}

async function connect(env: TaskEnvironment, handle: VmHandle): Promise<Duplex> {
  const endpoint = env.hypervisor.console(handle);
  switch (endpoint.kind) {
    case 'unix':
      try {
        return await connectUnixSocket(endpoint.path);
      } catch (cause) {
        if (cause instanceof VmctlError) throw cause;
        const words = cause instanceof Error ? cause.message : String(cause);
        throw new VmctlError('VM_DAMAGED', `the serial console of VM "${handle.name}" cannot be reached: ${words}`, {
          hint: `A restart makes a new one: vmctl stop ${handle.name}, then vmctl start ${handle.name}`,
          cause,
          fields: { vm: handle.name, path: endpoint.path },
        });
      }
    case 'stream':
      return await endpoint.connect(env.signal);
    case 'none':
      throw new VmctlError('UNSUPPORTED', `this version of vmctl cannot attach to a console of kind ${endpoint.kind}`, {
        fields: { vm: handle.name },
      });
    default:
      return unreachable(endpoint);
  }
}

/** Empty where the stream itself begins with it. */
async function readRecent(env: TaskEnvironment, handle: VmHandle): Promise<string> {
  if (env.hypervisor.console(handle).kind === 'stream') return '';
  const { directory } = handle;
  return recentLines((await readLast(join(directory, VM_FILES.consoleLog), RECENT_BYTES)).toString(), RECENT_LINES);
}

/** The console goes first when a VM ends, and its process a moment later. */
const END_TIMEOUT_MS = 5_000;

async function hasStopped(env: TaskEnvironment, handle: VmHandle): Promise<boolean> {
  const look = async () => ((await env.hypervisor.observe(handle)).state === 'stopped' ? true : null);
  return (await waitFor(look, { timeoutMs: END_TIMEOUT_MS })) ?? false;
}
