/** A VM that was made from a frozen one, and whose way from there to a VM of its own was interrupted. */
import { VmctlError } from '../src/errors.js';
import type { VmHandle } from '../src/model/vm.js';
import type { RegistryEntry } from '../src/registry.js';
import type { TaskEnvironment } from './context.js';

export async function isUnsettled({ registry }: TaskEnvironment, entry: RegistryEntry): Promise<boolean> {
  return (await registry.record(entry)).warm?.settled === false;
}

export function unsettledError(name: string, what: 'resume' | 'snapshot' | 'start'): VmctlError {
  return new VmctlError('VM_STATE', `cannot ${what} VM "${name}": vmctl was interrupted while it was restored`, {
    hint: `To take it back to what was frozen, run: vmctl reset ${name}`,
    fields: { vm: name },
  });
}

/**
 * Throws for a VM of a group that cannot be booted: what is on its disk has the name and the keys of the one that was
 * frozen. One that is of no group can.
 */
export async function assertBootable(env: TaskEnvironment, { spec }: VmHandle, entry: RegistryEntry): Promise<void> {
  if (spec.group !== null && (await isUnsettled(env, entry))) throw unsettledError(entry.name, 'start');
}
