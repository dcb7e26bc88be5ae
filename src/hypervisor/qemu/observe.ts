/** What a VM's QEMU is doing: looked up among the processes, and asked over QMP. */
import {
  type ObservedVm,
  type Transition,
  type VmHandle,
  assertTransition,
  illegalTransition,
} from '../../model/vm.js';
import type { CommandRunner } from '../../util/exec.js';
import { hasConnection, parseUserNetwork } from './command-line.js';
import { LEASE_FILES, findSsh } from './guest-address.js';
import { type LiveQemu, type Runtime, crashOf, findQemu } from './process.js';
import { connectToVm } from './qmp.js';

/** Long enough for a busy QEMU to answer; a QMP socket that another vmctl is using stays silent. */
const OBSERVE_TIMEOUT_MS = 1_000;

/**
 * Somebody paused it, also while it was resetting itself (`prelaunch`), it was saved, or it waits for the state that it is
 * to go on from.
 */
const PAUSED: readonly string[] = ['paused', 'prelaunch', 'postmigrate', 'finish-migrate', 'inmigrate'];

/** `run` asks the host for the address of a guest on a bridge. */
export async function observeQemu(handle: VmHandle, run: CommandRunner): Promise<ObservedVm> {
  const qemu = await findQemu(handle);
  if (qemu === null) return { state: 'stopped', handle, ...(await crashOf(handle)) };
  const { status, forwards } = await ask(handle, qemu.runtime);
  const live = {
    handle,
    pid: qemu.process.pid,
    ssh: await findSsh(handle, { forwards, leaseFiles: qemu.runtime.tap?.leaseFiles ?? LEASE_FILES, run }),
    forwards,
    accelerator: qemu.runtime.accelerator,
    unplugged: qemu.runtime.unplugged,
  };
  if (PAUSED.includes(status)) return { state: 'suspended', pausedBy: 'request', ...live };
  // QEMU manual, "-drive werror=enospc", the default: a write that the host's disk refuses pauses the guest.
  if (status === 'io-error') return { state: 'suspended', pausedBy: 'disk-error', ...live };
  return { state: 'running', ...live };
}

/** The QEMU of a VM that is about to make this transition. Throws `VM_STATE` where it may not. */
export async function qemuBefore(transition: Transition, handle: VmHandle, run: CommandRunner): Promise<LiveQemu> {
  const { state } = await observeQemu(handle, run);
  assertTransition(handle.name, state, transition);
  const qemu = await findQemu(handle);
  if (qemu !== null) return qemu;
  // It has ended between the two looks.
  throw illegalTransition(handle.name, 'stopped', transition);
}

/** True where somebody is connected through that port of this host at this moment. */
export async function isForwardTaken(handle: VmHandle, hostPort: number): Promise<boolean> {
  using qmp = await connectToVm(handle, { timeoutMs: OBSERVE_TIMEOUT_MS }).catch(() => null);
  // It has ended, or another vmctl is using it at this moment.
  if (qmp === null) return false;
  return hasConnection(await qmp.monitor('info usernet'), hostPort);
}

/** What QEMU says over QMP; what was recorded at the start where another client keeps it busy. */
async function ask(
  handle: VmHandle,
  runtime: Runtime,
): Promise<{ status: string; forwards: Runtime['forwards'] & {} }> {
  try {
    using qmp = await connectToVm(handle, { timeoutMs: OBSERVE_TIMEOUT_MS });
    const status = await qmp.status();
    const forwards = runtime.forwards ?? [...parseUserNetwork(await qmp.monitor('info usernet'))];
    return { status, forwards };
  } catch {
    return { status: 'running', forwards: runtime.forwards ?? [] };
  }
}
