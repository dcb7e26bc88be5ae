/** Start: a process for the VM, and the record that it is to be provisioned and to be ready anew. */
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { StageContext } from '../src/model/event.js';
import type { RunningVm, StoppedVm, VmHandle } from '../src/model/vm.js';
import { VM_FILES } from '../src/paths.js';
import type { RegistryEntry } from '../src/registry.js';
import type { TaskEnvironment } from './context.js';
import { forgetPowerCut } from './crash.js';
import { forgetRequest } from './stop.js';
import { resumeFromDisk } from './suspended.js';
import { settleFrozen } from './warm-restore.js';

export async function startVm(
  env: TaskEnvironment,
  vm: { readonly stopped: StoppedVm; readonly entry: RegistryEntry; readonly freezable?: boolean },
  context: StageContext,
): Promise<RunningVm> {
  const stopped = await settleFrozen(env, vm.stopped, context);
  await env.hypervisor.checkDisk(stopped.handle);
  await forgetRequest(stopped.handle);
  await forgetPowerCut(stopped.handle);
  const resumed = await resumeFromDisk(env, { stopped, entry: vm.entry }, context);
  if (resumed !== null) {
    await env.registry.updateRecord(vm.entry, { lastFailure: null });
    return resumed;
  }
  // Recorded first: whatever happens from here on, the next `up` knows that there is something left to do.
  await recordFreshStart(env, { entry: vm.entry, handle: stopped.handle });
  // One that boots owes nothing to what it may have been about to go on from.
  const { warm } = await env.registry.record(vm.entry);
  if (warm !== null) await env.registry.updateRecord(vm.entry, { warm: { ...warm, settled: true } });
  const running = await env.hypervisor.start(stopped, context, { kind: vm.freezable === true ? 'freezable' : 'boot' });
  await env.registry.updateRecord(vm.entry, { lastFailure: null });
  return running;
}

interface FreshStart {
  readonly entry: RegistryEntry;
  readonly handle: VmHandle;
  readonly frozen?: string | null;
}

/**
 * That it is to be provisioned, and to be ready anew, and that what its console has printed so far is of earlier starts;
 * where it goes on from frozen memory, it is that of the frozen VM which counts, whose key is given.
 */
export async function recordFreshStart(
  env: TaskEnvironment,
  { entry, handle, frozen = null }: FreshStart,
): Promise<void> {
  const { ready } = await env.registry.record(entry);
  // Where nobody writes it while the guest prints, the rest of the run before may be missing.
  await env.hypervisor.catchUpConsole(handle).catch(() => false);
  await env.registry.updateRecord(entry, {
    provisioning: 'pending',
    consoleStart: { from: await sizeOf(join(handle.directory, VM_FILES.consoleLog)), frozen },
    ...(ready === undefined || ready === null ? {} : { ready: { ...ready, since: null } }),
  });
}

/** In bytes; 0 where there is no such file. */
async function sizeOf(path: string): Promise<number> {
  return stat(path).then(
    ({ size }) => size,
    () => 0,
  );
}
