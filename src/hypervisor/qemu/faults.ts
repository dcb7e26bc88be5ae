/** Failures on purpose: the power, the reset button and the cables of a VM that runs on QEMU. */
import { join } from 'node:path';
import { type Nic, NICS, type VmHandle } from '../../model/vm.js';
import { VM_FILES } from '../../paths.js';
import type { LinkChange } from '../hypervisor.js';
import { type LiveQemu, removePidfile, writeRuntime } from './process.js';
import { type QmpConnection, connectQmp } from './qmp.js';
import { killProcess } from './shutdown.js';

/** What QMP's `set_link` knows the cards by: the id of a device, or that of the netdev behind it. */
const LINK_NAMES: Readonly<Record<Nic, string>> = { outside: 'net0', lan: 'lan0' };

/**
 * Kills QEMU. The disks are opened with the cache mode of QEMU's own default, `writeback` (QEMU manual, "-drive cache"):
 * what the guest has flushed is on the host's disk by then, qcow2's tables included. What it has only written may be
 * there or not, as in a disk with a cache of its own, and what its kernel has still kept to itself is lost.
 */
export async function cutPower(handle: VmHandle, qemu: LiveQemu): Promise<void> {
  await killProcess(qemu.process);
  // What is left of it would tell of a QEMU that ended by itself.
  await removePidfile(handle);
}

/** Resets the machine; settles when QEMU says that it has. The guest is not asked. */
export async function pressReset(handle: VmHandle): Promise<void> {
  const qmp = await connectQmp(join(handle.directory, VM_FILES.qmpSocket));
  try {
    const reset = qmp.event('RESET');
    await Promise.all([reset, qmp.execute('system_reset')]);
  } finally {
    qmp.close();
  }
}

/** Pulls cables of a machine whose runtime file says already that they are out. */
export async function pullCables(qmp: QmpConnection, nics: readonly Nic[]): Promise<void> {
  for (const nic of nics) await qmp.execute('set_link', { name: LINK_NAMES[nic], up: false });
}

/**
 * Plugs a cable in or pulls it out. That is written down as well, because QEMU does not tell: neither `info network`
 * nor `query-rx-filter` nor an object's properties say how a link is. It is written down first, so that a full disk
 * changes nothing.
 */
export async function changeLink(handle: VmHandle, { runtime }: LiveQemu, { nic, up }: LinkChange): Promise<void> {
  const qmp = await connectQmp(join(handle.directory, VM_FILES.qmpSocket));
  try {
    const unplugged = NICS.filter((one) => (one === nic ? !up : runtime.unplugged.includes(one)));
    await writeRuntime(handle, { ...runtime, unplugged });
    try {
      await qmp.execute('set_link', { name: LINK_NAMES[nic], up });
    } catch (error) {
      await writeRuntime(handle, runtime);
      throw error;
    }
  } finally {
    qmp.close();
  }
}
