/** Looking at VMs: what is recorded and what is true, put side by side. One sick VM never spoils the list. */
import { toVmctlError } from '../src/errors.js';
import type { ObservedVm, VmHandle } from '../src/model/vm.js';
import type { RegistryEntry, VmRecord } from '../src/registry.js';
import type { TaskEnvironment } from './context.js';
import { powerCutAt } from './crash.js';
import { type Remark, type VmEnding, remarksOn } from './remarks.js';
import { suspendedAt } from './suspended.js';

export type Inspection =
  | (VmEnding & {
      readonly entry: RegistryEntry;
      readonly handle: VmHandle;
      readonly observed: ObservedVm;
      readonly record: VmRecord;
      readonly remarks: readonly Remark[];
    })
  | { readonly entry: RegistryEntry; readonly problem: string };

/** Throws `VM_NOT_FOUND` when it was removed meanwhile. */
export async function inspectVm(env: TaskEnvironment, entry: RegistryEntry): Promise<Inspection> {
  try {
    const handle = await env.registry.handle(entry);
    const observed = await env.hypervisor.observe(handle);
    const record = await env.registry.record(entry);
    const cutAt = observed.state === 'stopped' ? await powerCutAt(handle) : null;
    const savedAt = observed.state === 'stopped' ? await suspendedAt(handle) : null;
    const ending = { powerCutAt: cutAt, suspendedAt: savedAt };
    const remarks = await remarksOn(env, observed, ending);
    // What is wrong may be that it was removed while it was looked at, or made anew.
    const isOther = remarks.length > 0 && (await env.registry.handle(entry)).uuid !== handle.uuid;
    return isOther ? await inspectVm(env, entry) : { entry, handle, observed, record, remarks, ...ending };
  } catch (error) {
    const { code, message } = toVmctlError(error);
    if (code === 'VM_NOT_FOUND') throw error;
    return { entry, problem: message };
  }
}

export async function inspectAll(env: TaskEnvironment): Promise<readonly Inspection[]> {
  return inspectThose(env, await env.registry.list());
}

/** Those of them that are still there. */
export async function inspectThose(
  env: TaskEnvironment,
  entries: readonly RegistryEntry[],
): Promise<readonly Inspection[]> {
  const found = await Promise.all(
    entries.map((entry) =>
      inspectVm(env, entry).catch((error: unknown) => {
        if (toVmctlError(error).code === 'VM_NOT_FOUND') return null;
        throw error;
      }),
    ),
  );
  return found.filter((inspection) => inspection !== null);
}
