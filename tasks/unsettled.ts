/** A VM that was made from a frozen one, and whose way from there to a VM of its own was interrupted. */
import { VmctlError } from '../src/errors.js';
import type { RegistryEntry } from '../src/registry.js';
import type { TaskEnvironment } from './context.js';

export async function isUnsettled({ registry }: TaskEnvironment, entry: RegistryEntry): Promise<boolean> {
  return (await registry.record(entry)).warm?.settled === false;
}

export function unsettledError(name: string, what: 'resume' | 'start'): VmctlError {
  return new VmctlError('VM_STATE', `cannot ${what} VM "${name}": vmctl was interrupted while it was restored`, {
    hint: `To make it anew from what was frozen, run: vmctl up ${name}`,
    fields: { vm: name },
  });
}
