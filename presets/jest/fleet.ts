/** The VMs as the test files of one process of Jest use them: one connection to each VM serves them all. */
import { type AttachedFleet, VmctlError, attach } from '../../src/index.js';
import { givenConnection } from '../testing/surroundings.js';

let attached: { readonly path: string; readonly fleet: Promise<AttachedFleet> } | null = null;
let isUsed = false;

/** The VMs of this run of Jest. Throws `USAGE` where it has none. */
export async function vms(): Promise<AttachedFleet> {
  const path = givenConnection();
  if (path === null) {
    throw new VmctlError('USAGE', 'this run of Jest has no VMs', {
      hint: "Add preset: 'vmctl/jest' to the configuration of Jest.",
    });
  }
  isUsed = true;
  // In a worker that lives longer than a run, the VMs may be others than before.
  if (attached?.path !== path) attached = { path, fleet: attach(path) };
  return attached.fleet;
}

/** A test file begins; nobody has asked for VMs in it yet. */
export function beginFile(): void {
  isUsed = false;
}

/** The VMs, if the current test file has asked for them. */
export async function usedFleet(): Promise<AttachedFleet | null> {
  return isUsed && attached !== null ? attached.fleet : null;
}
