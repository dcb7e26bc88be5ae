/** The seed of a VM, which its second disk is: read-only, and written once. */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { buildIso } from '../../cloud-init/iso9660.js';
import { SEED_VOLUME, seedFiles } from '../../cloud-init/seed.js';
import type { ResolvedVm } from '../../model/vm.js';
import { PRIVATE_FILE_MODE, VM_FILES } from '../../paths.js';

/** Nothing where there is nothing to tell the guest. */
export async function writeSeed(
  directory: string,
  { vm, uuid, mac }: { readonly vm: ResolvedVm; readonly uuid: string; readonly mac: string | null },
): Promise<void> {
  if (vm.seed === null) return;
  const iso = buildIso({ volume: SEED_VOLUME, files: seedFiles(vm.seed, { instanceId: uuid, mac }) });
  await writeFile(join(directory, VM_FILES.seed), iso, { mode: PRIVATE_FILE_MODE });
}
