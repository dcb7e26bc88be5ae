/** Stop: the guest is asked to power off, which is noted, because it may go on with that after vmctl was interrupted. */
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { VmctlError } from '../src/errors.js';
import type { StopMethod } from '../src/hypervisor/hypervisor.js';
import type { StageContext } from '../src/model/event.js';
import type { ObservedVm, StoppedVm, VmHandle } from '../src/model/vm.js';
import { PRIVATE_FILE_MODE, VM_FILES } from '../src/paths.js';
import { exists, isFull, removeFile } from '../src/util/fs.js';
import type { TaskEnvironment } from './context.js';

/** Stops a VM; null when it is stopped already. The caller holds its lock. */
export async function stopVm(
  env: Pick<TaskEnvironment, 'hypervisor'>,
  vm: { readonly handle: VmHandle; readonly graceMs: number },
  context: StageContext,
): Promise<StopMethod | null> {
  const { handle, graceMs } = vm;
  const observed = await env.hypervisor.observe(handle);
  if (observed.state === 'stopped') return null;
  if (graceMs > 0) await noteRequest(handle);
  try {
    return await env.hypervisor.stop(observed, { graceMs }, context);
  } catch (error) {
    // A guest that was asked before may be gone just now.
    const isLate = error instanceof VmctlError && error.code === 'VM_STATE';
    if (isLate && (await env.hypervisor.observe(handle)).state === 'stopped') return 'guest';
    throw error;
  }
}

/** True while a VM runs whose guest was asked to power off: it is only a matter of time. */
export async function isPoweringOff(observed: ObservedVm): Promise<boolean> {
  return observed.state !== 'stopped' && (await exists(noteOf(observed.handle)));
}

/** Waits for the end of a VM that is powering off, which comes by force when the time to stop is over. */
export async function awaitPowerOff(
  env: TaskEnvironment,
  { handle }: ObservedVm,
  context: StageContext,
): Promise<StoppedVm> {
  context.reporter.log('it is powering off; it is started again when it has stopped');
  await stopVm(env, { handle, graceMs: env.stopGraceSeconds * 1000 }, context);
  return { state: 'stopped', handle };
}

/** For a VM that is about to start. */
export async function forgetRequest(handle: VmHandle): Promise<void> {
  await removeFile(noteOf(handle));
}

/** An empty file, which even a full disk has room for. */
async function noteRequest(handle: VmHandle): Promise<void> {
  try {
    await (await open(noteOf(handle), 'w', PRIVATE_FILE_MODE)).close();
  } catch (error) {
    if (!isFull(error)) throw error;
  }
}

function noteOf({ directory }: VmHandle): string {
  return join(directory, VM_FILES.stopping);
}
