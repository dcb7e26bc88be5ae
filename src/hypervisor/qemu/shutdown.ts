/** How a QEMU ends: by its guest, which is asked over QMP, or by a signal. */
import { VmctlError } from '../../errors.js';
import type { VmHandle } from '../../model/vm.js';
import { type ProcessIdentity, isSameProcess, signalProcess } from '../../util/process.js';
import { settlesWithin, waitFor } from '../../util/wait.js';
import type { StopMethod } from '../hypervisor.js';
import { type QmpConnection, connectToVm } from './qmp.js';

const TERMINATE_TIMEOUT_MS = 5_000;
/** A guest that is still booting drops the first press of the power button, so it is pressed again. */
const POWER_BUTTON_INTERVAL_MS = 3_000;

/** Presses the power button until QEMU is gone; false when the grace is over first. */
export async function powerDown(
  handle: VmHandle,
  qemu: ProcessIdentity,
  options: { graceMs: number; signal: AbortSignal },
): Promise<boolean> {
  const deadline = performance.now() + options.graceMs;
  // Another vmctl may be using the socket, or the host be busy: there is time until the grace is over.
  const reach = async (): Promise<QmpConnection | 'gone' | null> =>
    (await isSameProcess(qemu)) ? connectToVm(handle).catch(() => null) : 'gone';
  const found = await waitFor(reach, { timeoutMs: options.graceMs, signal: options.signal });
  if (found === null || found === 'gone') return found === 'gone';
  using qmp = found;
  try {
    // A paused guest cannot react to its power button.
    await qmp.execute('cont');
    while (performance.now() < deadline) {
      await qmp.execute('system_powerdown');
      const left = Math.min(POWER_BUTTON_INTERVAL_MS, deadline - performance.now());
      if (await settlesWithin(qmp.closed, left, options.signal)) return await isGone(qemu, TERMINATE_TIMEOUT_MS);
    }
    return false;
  } catch (error) {
    // QEMU may end between two commands; then the broken socket is no failure.
    if (await isGone(qemu, 1_000)) return true;
    if (error instanceof VmctlError && error.code === 'QMP') return false;
    throw error;
  }
}

/** Ends it by force; settles when it is gone. */
export async function endProcess(qemu: ProcessIdentity): Promise<StopMethod> {
  await signalProcess(qemu, 'SIGTERM');
  if (await isGone(qemu, TERMINATE_TIMEOUT_MS)) return 'SIGTERM';
  await killProcess(qemu);
  return 'SIGKILL';
}

/** Ends it without a word, so that it flushes nothing; settles when it is gone. */
export async function killProcess(qemu: ProcessIdentity): Promise<void> {
  await signalProcess(qemu, 'SIGKILL');
  if (await isGone(qemu, TERMINATE_TIMEOUT_MS)) return;
  throw new VmctlError('QMP', `QEMU (pid ${qemu.pid}) is still there ${TERMINATE_TIMEOUT_MS / 1000} s after SIGKILL`, {
    hint: 'It is probably waiting for a disk or network file system; look at it with ps and try again.',
  });
}

async function isGone(qemu: ProcessIdentity, timeoutMs: number): Promise<boolean> {
  const gone = await waitFor(async () => ((await isSameProcess(qemu)) ? null : true), { timeoutMs });
  return gone === true;
}
