/** What there is to say of a VM that its state does not tell: what is wrong with it, and what somebody did to it on purpose. */
import { toVmctlError } from '../src/errors.js';
import type { Nic, ObservedVm, VmHandle } from '../src/model/vm.js';
import { connectCommand } from './cable.js';
import type { TaskEnvironment } from './context.js';
import { isPoweringOff } from './stop.js';

export interface Remark {
  readonly kind: 'problem' | 'on purpose';
  readonly what: string;
  /** The next step; null where there is none but to wait. */
  readonly next: string | null;
  /** Lines of a log that belong to it, below each other; null for none. */
  readonly details: string | null;
}

/** What somebody did to a VM that has stopped since; null for what was not done. */
export interface VmEnding {
  /** When its power was cut, in ISO 8601, where it has not been started since. */
  readonly powerCutAt: string | null;
  /** When it was suspended to the disk, in ISO 8601, where it can go on from that. */
  readonly suspendedAt: string | null;
}

/** Why QEMU has paused a guest by itself. */
export const DISK_ERROR = 'a disk of this host refused what the guest writes, because it is full or failing';

/** The step after that. */
export function afterDiskError(name: string): string {
  return `Free some space, then run: vmctl resume ${name}`;
}

export async function remarksOn(
  env: TaskEnvironment,
  observed: ObservedVm,
  { powerCutAt, suspendedAt }: VmEnding,
): Promise<readonly Remark[]> {
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
  if (suspendedAt !== null) {
    const next = `Continue it with: vmctl resume ${handle.name}`;
    remarks.push({ kind: 'on purpose', what: `suspended to the disk at ${suspendedAt}`, next, details: null });
  } else if (powerCutAt !== null) {
    const next = `Start it again with: vmctl start ${handle.name}`;
    remarks.push({ kind: 'on purpose', what: `power cut at ${powerCutAt}`, next, details: null });
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
