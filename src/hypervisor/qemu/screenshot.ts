/** The screen of a QEMU's VGA card, by QMP's `screendump` (QEMU QMP reference). */
import { randomBytes } from 'node:crypto';
import { readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { VmHandle } from '../../model/vm.js';
import { pngOfPpm } from './png.js';
import { connectToVm } from './qmp.js';

/**
 * Gives the bytes of a PNG file. QEMU writes PPM, because only QEMU 7.1 and later can write PNG, and only when built so.
 * It writes into the VM's directory, where it works.
 */
export async function takeScreenshot(handle: VmHandle): Promise<Uint8Array> {
  const name = `screen-${randomBytes(4).toString('hex')}.ppm`;
  const path = join(handle.directory, name);
  using qmp = await connectToVm(handle);
  try {
    await qmp.execute('screendump', { filename: name });
    return await pngOfPpm(await readFile(path));
  } finally {
    await rm(path, { force: true });
  }
}
