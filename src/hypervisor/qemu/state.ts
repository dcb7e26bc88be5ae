/** A VM's saved state: made of one that runs, and what one that has just started goes on from. */
import type { VmHandle } from '../../model/vm.js';
import type { SavedState } from '../hypervisor.js';
import { connectToVm } from './qmp.js';
import { readState, writeState } from './state-stream.js';
import { startError } from './start-error.js';

/** Pauses the machine and writes its state. It stays paused; where that fails, it goes on as it did. */
export async function saveState(
  handle: VmHandle,
  target: { readonly path: string; readonly withoutMemory: boolean },
  signal: AbortSignal,
): Promise<void> {
  const { directory } = handle;
  using qmp = await connectToVm(handle);
  const ran = (await qmp.status()) === 'running';
  await qmp.execute('stop');
  try {
    await writeState(qmp, target.path, { directory, withoutMemory: target.withoutMemory, signal });
  } catch (error) {
    if (ran) await qmp.execute('cont').catch(() => {});
    throw error;
  }
}

/** Hands a machine that waits for it its state, and lets it go on. Throws `QEMU_START` with QEMU's own words. */
export async function restoreState(handle: VmHandle, saved: SavedState, signal: AbortSignal): Promise<void> {
  const { directory } = handle;
  using qmp = await connectToVm(handle);
  try {
    await readState(qmp, saved.state, { directory, withoutMemory: saved.memory !== null, signal });
    await qmp.execute('cont');
  } catch (error) {
    if (signal.aborted) throw error;
    throw await startError(
      handle,
      `its saved state could not be loaded (${error instanceof Error ? error.message : ''})`,
    );
  }
}
