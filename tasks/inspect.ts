/** Looking at VMs: what is recorded and what is true, put side by side. One sick VM never spoils the list. */
import { toVmctlError } from '../src/errors.js';
import type { ObservedVm, VmHandle } from '../src/model/vm.js';
import type { RegistryEntry, VmRecord } from '../src/registry.js';
import type { TaskEnvironment } from './context.js';

/** What is wrong with a VM and its state does not tell, with the next step. */
export interface Remark {
  readonly what: string;
  readonly next: string | null;
}

export type Inspection =
  | {
      readonly entry: RegistryEntry;
      readonly handle: VmHandle;
      readonly observed: ObservedVm;
      readonly record: VmRecord;
      readonly remarks: readonly Remark[];
    }
  | { readonly entry: RegistryEntry; readonly problem: string };

export async function inspectVm(env: TaskEnvironment, entry: RegistryEntry): Promise<Inspection> {
  try {
    const handle = await env.registry.handle(entry);
    const observed = await env.hypervisor.observe(handle);
    const record = await env.registry.record(entry);
    return { entry, handle, observed, record, remarks: await remarksOn(env, observed) };
  } catch (error) {
    return { entry, problem: toVmctlError(error).message };
  }
}

async function remarksOn(env: TaskEnvironment, observed: ObservedVm): Promise<readonly Remark[]> {
  const remarks: Remark[] = [];
  try {
    await env.hypervisor.checkDisk(observed.handle);
  } catch (error) {
    const { message, hint } = toVmctlError(error);
    remarks.push({ what: message, next: hint });
  }
  return remarks;
}

export async function inspectAll(env: TaskEnvironment): Promise<readonly Inspection[]> {
  return Promise.all((await env.registry.list()).map((entry) => inspectVm(env, entry)));
}
