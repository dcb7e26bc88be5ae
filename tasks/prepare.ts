/** Prepare: the VM's files come into being, all of them or none, and the registry knows of it. */
import type { StageContext } from '../src/model/event.js';
import type { ResolvedVm, VmHandle } from '../src/model/vm.js';
import type { TaskEnvironment } from './context.js';

export async function prepareVm(env: TaskEnvironment, vm: ResolvedVm, context: StageContext): Promise<VmHandle> {
  const { name } = vm.spec;
  const { paths } = env;
  const places = { directory: paths.vm(name), staging: paths.vmStaging(name), durable: paths.durable };
  const handle = await env.hypervisor.prepare(vm, places, context);
  await env.registry.add(handle);
  return handle;
}
