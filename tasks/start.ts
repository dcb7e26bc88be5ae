/** Start: a process for the VM, and the record that it is to be provisioned and to be ready anew. */
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { StageContext } from '../src/model/event.js';
import type { RunningVm, StoppedVm } from '../src/model/vm.js';
import { VM_FILES } from '../src/paths.js';
import type { RegistryEntry } from '../src/registry.js';
import type { TaskEnvironment } from './context.js';
import { forgetRequest } from './stop.js';

export async function startVm(
  env: TaskEnvironment,
  vm: { readonly stopped: StoppedVm; readonly entry: RegistryEntry },
  context: StageContext,
): Promise<RunningVm> {
  await env.hypervisor.checkDisk(vm.stopped.handle);
  await forgetRequest(vm.stopped.handle);
  const { ready } = await env.registry.record(vm.entry);
  const consoleFrom = await sizeOf(join(vm.stopped.handle.directory, VM_FILES.consoleLog));
  // Recorded first: whatever happens from here on, the next `up` knows that there is something left to do.
  await env.registry.updateRecord(vm.entry, {
    provisioning: 'pending',
    ...(ready === undefined || ready === null ? {} : { ready: { ...ready, since: null } }),
    ...(consoleFrom === 0 ? {} : { consoleFrom }),
  });
  const running = await env.hypervisor.start(vm.stopped, context);
  await env.registry.updateRecord(vm.entry, { lastFailure: null });
  return running;
}

/** In bytes; 0 where there is no such file. */
async function sizeOf(path: string): Promise<number> {
  return stat(path).then(
    ({ size }) => size,
    () => 0,
  );
}
