/** A VM's saved state: made of one that runs, and what one that has just started goes on from. */
import { VmctlError } from '../../errors.js';
import { type Nic, type VmHandle, nicsOf } from '../../model/vm.js';
import { commandLineOf } from '../../util/process.js';
import type { SavedState } from '../hypervisor.js';
import { headerFor } from './command-line.js';
import { setLink } from './faults.js';
import { findQemu } from './process.js';
import { connectToVm } from './qmp.js';
import { type StateHeader, readHeader } from './state-header.js';
import { readState, writeState } from './state-stream.js';
import { startError } from './start-error.js';

/** Pauses the machine and writes its state. It stays paused; where that fails, it goes on as it did. */
export async function saveState(
  handle: VmHandle,
  target: { readonly path: string; readonly withoutMemory: boolean },
  signal: AbortSignal,
): Promise<void> {
  const { directory } = handle;
  const header = await headerNow(handle);
  using qmp = await connectToVm(handle);
  const ran = (await qmp.status()) === 'running';
  await qmp.execute('stop');
  try {
    await writeState(qmp, target.path, { directory, header, withoutMemory: target.withoutMemory, signal });
  } catch (error) {
    if (ran) await qmp.execute('cont').catch(() => {});
    throw error;
  }
}

/** By the command line of the QEMU that runs: nothing that is written down can be lost or forgotten. */
async function headerNow(handle: VmHandle): Promise<StateHeader> {
  const qemu = await findQemu(handle);
  const words = qemu === null ? null : await commandLineOf(qemu.process.pid);
  if (words === null) throw new VmctlError('QMP', `QEMU of VM "${handle.name}" ended before its state was saved`);
  return headerFor(handle, words);
}

/** What a saved state says of itself. Throws `QEMU_START` where that cannot be read. */
export async function headerOf({ name }: VmHandle, { state }: SavedState): Promise<StateHeader> {
  const found = await readHeader(state).catch(() => null);
  if (found !== null) return found.header;
  throw new VmctlError('QEMU_START', `VM "${name}" cannot go on from its saved state: ${state} has none`, {
    fields: { vm: name, path: state },
  });
}

interface Restored {
  readonly saved: SavedState;
  /** The cards whose cable is to be out; default none. */
  readonly unplugged?: readonly Nic[];
}

/** Hands a machine that waits for it its state, and lets it go on. Throws `QEMU_START` with QEMU's own words. */
export async function restoreState(
  handle: VmHandle,
  { saved, unplugged = [] }: Restored,
  signal: AbortSignal,
): Promise<void> {
  const { directory } = handle;
  using qmp = await connectToVm(handle);
  try {
    await readState(qmp, saved.state, { directory, withoutMemory: saved.memory !== null, signal });
    // The state has the guest's end of each cable in it, as it was, and the other end is in.
    for (const nic of nicsOf(handle)) await setLink(qmp, { nic, up: !unplugged.includes(nic) });
    await qmp.execute('cont');
  } catch (error) {
    if (signal.aborted) throw error;
    throw await startError(
      handle,
      `its saved state could not be loaded (${error instanceof Error ? error.message : ''})`,
    );
  }
}
