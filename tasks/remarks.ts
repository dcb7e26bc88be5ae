/** What is wrong with a VM and its state does not tell. */
import { toVmctlError } from '../src/errors.js';
import type { ObservedVm } from '../src/model/vm.js';
import type { TaskEnvironment } from './context.js';
import { isPoweringOff } from './stop.js';

export interface Remark {
  readonly what: string;
  /** The next step; null where there is none but to wait. */
  readonly next: string | null;
  /** Lines of a log that belong to it, below each other; null for none. */
  readonly details: string | null;
}

/** Why QEMU has paused a guest by itself. */
export const DISK_ERROR = 'a disk of this host refused what the guest writes, because it is full or failing';

/** The step after that. */
export function afterDiskError(name: string): string {
  return `Free some space, then run: vmctl resume ${name}`;
}

export async function remarksOn(env: TaskEnvironment, observed: ObservedVm): Promise<readonly Remark[]> {
  const { handle } = observed;
  const remarks: Remark[] = [];
  if (await isPoweringOff(observed)) {
    const next = `To have it back as soon as it has stopped, run: vmctl start ${handle.name}`;
    remarks.push({ what: 'its guest was asked to power off', next, details: null });
  }
  if (observed.state === 'suspended' && observed.pausedBy === 'disk-error') {
    remarks.push({ what: `it is paused: ${DISK_ERROR}`, next: afterDiskError(handle.name), details: null });
  }
  if (observed.state === 'stopped' && observed.crash !== undefined) {
    const { log } = observed.crash;
    const what = `its process ended unexpectedly${log === '' ? ', and left no word in its log' : '; the end of its log:'}`;
    const next = `Start it again with: vmctl start ${handle.name}`;
    remarks.push({ what, next, details: log === '' ? null : log });
  }
  try {
    await env.hypervisor.checkDisk(handle);
  } catch (error) {
    const { message, hint, details } = toVmctlError(error);
    remarks.push({ what: message, next: hint, details });
  }
  return remarks;
}
