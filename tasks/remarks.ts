/** What there is to say of a VM that its state does not tell: what is wrong with it, and what somebody did to it on purpose. */
import { toVmctlError } from '../src/errors.js';
import type { Nic, ObservedVm, VmHandle } from '../src/model/vm.js';
import { connectCommand } from './cable.js';
import type { TaskEnvironment } from './context.js';
import { powerCutAt } from './crash.js';
import { isPoweringOff } from './stop.js';
import { suspendedAt } from './suspended.js';

export interface Remark {
  readonly kind: 'problem' | 'on purpose';
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
    remarks.push({ kind: 'problem', what: 'its guest was asked to power off', next, details: null });
  }
  if (observed.state === 'suspended' && observed.pausedBy === 'disk-error') {
    const what = `it is paused: ${DISK_ERROR}`;
    remarks.push({ kind: 'problem', what, next: afterDiskError(handle.name), details: null });
  }
  if (observed.state !== 'stopped') remarks.push(...observed.unplugged.map((nic) => unpluggedRemark(handle, nic)));
  const cutAt = observed.state === 'stopped' ? await powerCutAt(handle) : null;
  const savedAt = observed.state === 'stopped' ? await suspendedAt(handle) : null;
  if (savedAt !== null) {
    const next = `Continue it with: vmctl resume ${handle.name}`;
    remarks.push({ kind: 'on purpose', what: `suspended to the disk at ${savedAt}`, next, details: null });
  } else if (cutAt !== null) {
    const next = `Start it again with: vmctl start ${handle.name}`;
    remarks.push({ kind: 'on purpose', what: `power cut at ${cutAt}`, next, details: null });
  } else if (observed.state === 'stopped' && observed.crash !== undefined) {
    const { log } = observed.crash;
    const what = `its process ended unexpectedly${log === '' ? ', and left no word in its log' : '; the end of its log:'}`;
    const next = `Start it again with: vmctl start ${handle.name}`;
    remarks.push({ kind: 'problem', what, next, details: log === '' ? null : log });
  }
  try {
    await env.hypervisor.checkDisk(handle);
  } catch (error) {
    const { message, hint, details } = toVmctlError(error);
    remarks.push({ kind: 'problem', what: message, next: hint, details });
  }
  return remarks;
}

function unpluggedRemark({ name }: VmHandle, nic: Nic): Remark {
  const so = nic === 'outside' ? ', so vmctl cannot reach its guest' : '';
  const next = `Plug it in again with: ${connectCommand(name, nic)}`;
  return { kind: 'on purpose', what: `its ${nic} cable is out${so}`, next, details: null };
}
