/** Why a QEMU did not start: its own words, and what to do about them. */
import { join } from 'node:path';
import { VmctlError } from '../../errors.js';
import type { VmHandle } from '../../model/vm.js';
import { VM_FILES } from '../../paths.js';
import { tailOfFile } from '../../util/exec.js';

/** `QEMU_START` with what happened and the last words of QEMU's log. */
export async function startError(handle: VmHandle, what: string): Promise<VmctlError> {
  const words = await tailOfFile(join(handle.directory, VM_FILES.qemuLog), 20);
  const last = words.split('\n').findLast((line) => line.includes('qemu')) ?? words;
  return new VmctlError('QEMU_START', `VM "${handle.name}" did not start: ${what}${last === '' ? '' : `: ${last}`}`, {
    ...(words.includes('\n') ? { details: words } : {}),
    ...startHint(words, handle),
    fields: { vm: handle.name },
  });
}

function startHint(words: string, { name, spec }: VmHandle): { hint?: string } {
  // How many there may be depends on QEMU's version and its machine, so QEMU says.
  const most = /max CPUs supported by machine '[^']*' is (\d+)/.exec(words)?.[1];
  if (most !== undefined) {
    const next = spec.project === null ? `make it anew: vmctl destroy ${name}` : `then run: vmctl reload ${name}`;
    const where = spec.project === null ? 'Take fewer, and' : 'Lower "vcpus" in the VMFile,';
    return { hint: `A machine has ${most} vCPUs at most with this QEMU. ${where} ${next}` };
  }
  if (words.includes('Could not set up host forwarding rule')) {
    return { hint: 'Another program uses that port. Change the "forward" in the VMFile, or use 0 for a free port.' };
  }
  if (words.includes('Failed to get "write" lock')) {
    return { hint: 'Another QEMU has this disk open. Find it with: pgrep -af qemu-system' };
  }
  if (words.includes('could not configure /dev/net/tun')) {
    return { hint: 'The TAP device belongs to another user. Remove it with: sudo ip link delete NAME' };
  }
  if (words.includes('Cannot allocate memory') || words.includes('cannot set up guest memory')) {
    return { hint: 'The host has too little free memory. Lower "memory" in the VMFile, or stop other VMs.' };
  }
  if (NOT_UNDERSTOOD.test(words)) {
    const next = 'To see its version and the oldest that vmctl is tested with, run: vmctl doctor';
    return { hint: `This QEMU does not understand how vmctl starts it: it may be too old, or miss a part. ${next}` };
  }
  return {};
}

/** QEMU's words, of several versions, for an option, machine, device or property that it does not have. */
const NOT_UNDERSTOOD =
  /: invalid option|[Ii]nvalid parameter '|Parameter '[^']*' is unexpected|not a valid device model name|unsupported machine type|Property '[^']*' not found|invalid accelerator/;
