/** How the vCPUs of a VM stop, and go on. */
import { join } from 'node:path';
import { VmctlError } from '../../errors.js';
import type { VmHandle } from '../../model/vm.js';
import { VM_FILES } from '../../paths.js';
import { connectQmp } from './qmp.js';

export async function pauseGuest(handle: VmHandle): Promise<void> {
  const qmp = await connectQmp(join(handle.directory, VM_FILES.qmpSocket));
  try {
    await qmp.execute('stop');
  } finally {
    qmp.close();
  }
}

/** Throws `VM_STATE` for a machine that was never given its state: it has nothing to go on from. */
export async function continueGuest(handle: VmHandle): Promise<void> {
  const qmp = await connectQmp(join(handle.directory, VM_FILES.qmpSocket));
  try {
    if ((await qmp.status()) === 'inmigrate') throw notRestored(handle);
    await qmp.execute('cont');
  } finally {
    qmp.close();
  }
}

function notRestored({ name }: VmHandle): VmctlError {
  return new VmctlError('VM_STATE', `cannot resume VM "${name}": vmctl was killed while it was restored`, {
    hint: `To end it, run: vmctl stop --force ${name}`,
    fields: { vm: name },
  });
}
