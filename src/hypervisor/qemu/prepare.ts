/** The files of a new VM: its disk on its image, its seed, and what its firmware keeps. */
import { randomUUID } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { buildIso } from '../../cloud-init/iso9660.js';
import { SEED_VOLUME, seedFiles } from '../../cloud-init/seed.js';
import { createOverlay } from '../../image/qemu-img.js';
import { lanIdentity } from '../../model/lan.js';
import type { ResolvedVm, VmHandle } from '../../model/vm.js';
import { PRIVATE_FILE_MODE, VM_FILES } from '../../paths.js';
import type { PrepareOptions } from '../hypervisor.js';
import { buildWorkDirectory, stableMac, writeGuestAccess } from '../work-directory.js';
import { copyVariables } from './firmware.js';

/** `findBinary` is asked where the firmware depends on it alone. */
export async function prepareFiles(
  vm: ResolvedVm,
  options: PrepareOptions,
  { findBinary, signal }: { readonly findBinary: () => Promise<string>; readonly signal: AbortSignal },
): Promise<VmHandle> {
  const { spec, image } = vm;
  const uuid = randomUUID();
  const mac = spec.network.kind === 'none' ? null : stableMac(spec.project, spec.name);
  return buildWorkDirectory(options, async (directory) => {
    const overlay = { base: image, path: join(directory, VM_FILES.overlay), sizeBytes: spec.diskBytes };
    await createOverlay(overlay, { signal });
    if (vm.seed !== null) {
      const iso = buildIso({
        volume: SEED_VOLUME,
        files: seedFiles(vm.seed, { instanceId: uuid, mac, lan: lanIdentity(spec) }),
      });
      await writeFile(join(directory, VM_FILES.seed), iso, { mode: PRIVATE_FILE_MODE });
    }
    await writeGuestAccess(directory, vm);
    if (spec.firmware === 'uefi') await copyVariables(directory, await findBinary());
    const createdAt = new Date().toISOString();
    return { name: spec.name, backend: 'qemu', directory: options.directory, uuid, mac, spec, image, createdAt };
  });
}
