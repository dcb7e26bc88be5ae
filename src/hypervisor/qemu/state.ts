/** A VM's saved state: made of one that runs, and what one that has just started goes on from. */
import { join } from 'node:path';
import type { Nic, VmHandle } from '../../model/vm.js';
import { VM_FILES } from '../../paths.js';
import type { SavedState } from '../hypervisor.js';
import { pullCables } from './faults.js';
import { connectQmp } from './qmp.js';
import { readState, writeState } from './state-stream.js';
import { startError } from './start-error.js';

/** Pauses the machine and writes its state. It stays paused; where that fails, it goes on as it did. */
export async function saveState(
  handle: VmHandle,
  target: { readonly path: string; readonly withoutMemory: boolean },
  signal: AbortSignal,
): Promise<void> {
  const { directory } = handle;
  const qmp = await connectQmp(join(directory, VM_FILES.qmpSocket));
  try {
    const ran = (await qmp.status()) === 'running';
    await qmp.execute('stop');
    try {
      await writeState(qmp, target.path, { directory, withoutMemory: target.withoutMemory, signal });
    } catch (error) {
      if (ran) await qmp.execute('cont').catch(() => {});
      throw error;
    }
  } finally {
    qmp.close();
  }
}

/** Hands a machine that waits for it its state, and lets it go on, without some cables. Throws `QEMU_START` with QEMU's own words. */
export async function restoreState(
  handle: VmHandle,
  { saved, unplugged }: { readonly saved: SavedState; readonly unplugged: readonly Nic[] },
  signal: AbortSignal,
): Promise<void> {
  const { directory } = handle;
  const qmp = await connectQmp(join(directory, VM_FILES.qmpSocket));
  try {
    await readState(qmp, saved.state, { directory, withoutMemory: saved.memory !== null, signal });
    await pullCables(qmp, unplugged);
    await qmp.execute('cont');
  } catch (error) {
    if (signal.aborted) throw error;
    throw await startError(
      handle,
      `its saved state could not be loaded (${error instanceof Error ? error.message : ''})`,
    );
  } finally {
    qmp.close();
  }
}
