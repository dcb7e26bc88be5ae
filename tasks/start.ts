/** Start: a process for the VM, and the record that it is to be provisioned. */
import type { StageContext } from '../src/model/event.js';
import type { RunningVm, StoppedVm } from '../src/model/vm.js';
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
  const resumed = await resumeFromDisk(env, stopped, context);
  if (resumed !== null) {
    await env.registry.updateRecord(vm.entry, { lastFailure: null });
    return resumed;
  }
  // Recorded first: whatever happens from here on, the next `up` knows that there is something left to do.
  await env.registry.updateRecord(vm.entry, { provisioning: 'pending' });
  const running = await env.hypervisor.start(stopped, context, { kind: vm.freezable === true ? 'freezable' : 'boot' });
  await env.registry.updateRecord(vm.entry, { lastFailure: null });
  return running;
}
