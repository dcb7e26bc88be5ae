/**
 * A VM as files that other VMs start from. The disk and the memory are not copied: the folder gets hard links to them,
 * and the VM itself goes on, as one of those others, on a fresh disk that stands on its former one.
 */
import { randomUUID } from 'node:crypto';
import { chmod, link, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { toVmctlError } from '../../errors.js';
import { releaseUnwritten } from '../../image/file-space.js';
import { createOverlay } from '../../image/qemu-img.js';
import type { VmSpec } from '../../model/spec.js';
import type { VmHandle } from '../../model/vm.js';
import { PRIVATE_FILE_MODE, VM_FILES } from '../../paths.js';
import { exists, syncFiles } from '../../util/fs.js';
import { copyIfPresent, frozenImage, keepCompanions, macOfCopy, recordBranch, takeCompanions } from '../frozen.js';
import { FROZEN_FILES, type PrepareOptions } from '../hypervisor.js';
import { buildWorkDirectory } from '../work-directory.js';

interface FreezeSteps {
  readonly isLive: boolean;
  /** Pauses the machine and writes its state; a machine whose state could not be written goes on. */
  readonly saveState: (target: { readonly path: string; readonly withoutMemory: boolean }) => Promise<void>;
  readonly endQemu: () => Promise<void>;
  /** Told what did not go well and yet keeps nobody from anything. */
  readonly note: (text: string) => void;
}

/**
 * Fills the folder. What a file system may refuse, as hard links and what takes space, is tried before the machine is
 * ended; where that fails, the machine goes on.
 */
export async function freezeFiles(handle: VmHandle, folder: string, steps: FreezeSteps): Promise<void> {
  const { directory } = handle;
  const frozen = (name: string): string => join(folder, name);
  try {
    await link(join(directory, VM_FILES.overlay), frozen(FROZEN_FILES.disk));
    await keepCompanions(handle, folder);
    if (steps.isLive) {
      // Only a machine that was started for it has its memory in a file; that of another one is a part of its state.
      const withoutMemory = await exists(join(directory, VM_FILES.memory));
      if (withoutMemory) await link(join(directory, VM_FILES.memory), frozen(FROZEN_FILES.memory));
      await steps.saveState({ path: frozen(FROZEN_FILES.state), withoutMemory });
      await steps.endQemu();
    }
    // What a guest with UEFI has changed there until now.
    await copyIfPresent(join(directory, VM_FILES.firmwareVariables), frozen(VM_FILES.firmwareVariables));
    await chmod(frozen(FROZEN_FILES.disk), PRIVATE_FILE_MODE);
    await syncFiles(folder);
    if (await exists(frozen(FROZEN_FILES.memory))) await releaseMemory(frozen(FROZEN_FILES.memory), steps.note);
  } catch (error) {
    await rm(folder, { recursive: true, force: true });
    throw error;
  }
}

/** The space that was kept for what the guest has not used. */
async function releaseMemory(path: string, note: FreezeSteps['note']): Promise<void> {
  try {
    await releaseUnwritten(path);
  } catch (error) {
    note(`what it does not use of its memory takes space on the disk nevertheless: ${toVmctlError(error).message}`);
  }
}

/** The directory of a VM that starts from a frozen one: a disk of its own, and a copy of everything else. */
export async function prepareFromFrozen(
  spec: VmSpec,
  folder: string,
  options: PrepareOptions & { readonly signal: AbortSignal },
): Promise<VmHandle> {
  const mac = await macOfCopy(spec, folder);
  const image = await frozenImage(folder);
  const { name } = spec;
  return buildWorkDirectory(options, async (directory) => {
    await createOverlay({ base: image, path: join(directory, VM_FILES.overlay), sizeBytes: null }, options);
    await takeCompanions(folder, directory, name);
    const createdAt = new Date().toISOString();
    return { name, backend: 'qemu', directory: options.directory, uuid: randomUUID(), mac, spec, image, createdAt };
  });
}

/** Puts a fresh disk on the frozen one in the place of the VM's own, and gives the handle that says so. */
export async function branchDisk(handle: VmHandle, folder: string, signal: AbortSignal): Promise<VmHandle> {
  const { directory } = handle;
  const image = await frozenImage(folder);
  const next = join(directory, VM_FILES.nextOverlay);
  await createOverlay({ base: image, path: next, sizeBytes: null }, { signal });
  await copyIfPresent(join(folder, VM_FILES.firmwareVariables), join(directory, VM_FILES.firmwareVariables));
  // Recorded first: whoever is killed in between leaves a handle from which this can be done again.
  const branched = await recordBranch(handle, image);
  await rename(next, join(directory, VM_FILES.overlay));
  return branched;
}
