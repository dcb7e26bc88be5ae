/** How the vCPUs of a VM stop, and go on. */
import { VmctlError } from '../../errors.js';
import type { VmHandle } from '../../model/vm.js';
import { connectToVm } from './qmp.js';

export async function pauseGuest(handle: VmHandle): Promise<void> {
  using qmp = await connectToVm(handle);
  await qmp.execute('stop');
}

/** Throws `VM_STATE` for a machine that was never given its state: it has nothing to go on from. */
export async function continueGuest(handle: VmHandle): Promise<void> {
  using qmp = await connectToVm(handle);
  if ((await qmp.status()) === 'inmigrate') throw notRestored(handle);
  await qmp.execute('cont');
}

function notRestored({ name }: VmHandle): VmctlError {
  return new VmctlError('VM_STATE', `cannot resume VM "${name}": vmctl was killed while it was restored`, {
    hint: `To end it, run: vmctl stop --force ${name}`,
    fields: { vm: name },
  });
}
