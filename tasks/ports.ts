/** The ports of this host that lead to a VM: kept over an end and a start, where nobody else takes them meanwhile. */
import { toVmctlError } from '../src/errors.js';
import type { Forward } from '../src/model/spec.js';

/** Whether a VM did not start because somebody else has a port of this host that it is to have. */
export function isPortTaken(error: unknown): boolean {
  return toVmctlError(error).message.includes('Could not set up host forwarding rule');
}

/**
 * Starts a VM with the forwards that it had before; with those that its spec says where there were none, or where
 * somebody else has taken one of them.
 */
export async function onSamePorts<T>(
  before: readonly Forward[],
  start: (ports: { readonly forwards?: readonly Forward[] }) => Promise<T>,
): Promise<T> {
  if (before.length === 0) return start({});
  return start({ forwards: before }).catch((error: unknown) => {
    if (!isPortTaken(error)) throw error;
    return start({});
  });
}
