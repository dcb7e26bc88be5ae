/** Whether the image that a VM's disk stands on is still the one that the VM was made from. */
import { stat } from 'node:fs/promises';
import { VmctlError } from '../errors.js';
import type { VmHandle } from '../model/vm.js';
import { isMissing } from '../util/fs.js';

/**
 * Throws `IMAGE_NOT_FOUND` when it is gone, and `VM_DAMAGED` when it has changed. Its length and the time of its last
 * change tell that: an inode would be another one where the same file was copied back.
 */
export async function checkBaseImage(handle: VmHandle): Promise<void> {
  const { name, image } = handle;
  const fields = { vm: name, path: image.path };
  const facts = await stat(image.path).catch((cause: unknown) => {
    const words = isMissing(cause)
      ? 'is gone'
      : `cannot be read: ${cause instanceof Error ? cause.message : String(cause)}`;
    throw new VmctlError('IMAGE_NOT_FOUND', `the image ${image.path}, on which VM "${name}" stands, ${words}`, {
      hint: `Put it back, or ${makeAnew(handle)}`,
      cause,
      fields,
    });
  });
  const { file } = image;
  const now = { bytes: facts.size, modifiedMs: Math.trunc(facts.mtimeMs) };
  if (file === undefined || (file.bytes === now.bytes && file.modifiedMs === now.modifiedMs)) return;
  throw new VmctlError('VM_DAMAGED', `the image ${image.path} has changed since VM "${name}" was made`, {
    hint: `Put the old file back, or ${makeAnew(handle)}`,
    details: `then: ${factsText(file)}\nnow:  ${factsText(now)}`,
    fields,
  });
}

/** `VM_DAMAGED` for a VM without its own disk. */
export function diskMissing(handle: VmHandle, path: string): VmctlError {
  return new VmctlError('VM_DAMAGED', `VM "${handle.name}" is damaged: its disk ${path} is missing`, {
    hint: `To ${makeAnew(handle)}`,
    fields: { vm: handle.name, path },
  });
}

function makeAnew({ name, spec }: VmHandle): string {
  if (spec.project === null) return `remove the VM, with what is on its disk: vmctl destroy ${name}`;
  return `make the VM anew, without what is on its disk: vmctl reload ${name}`;
}

function factsText({ bytes, modifiedMs }: { readonly bytes: number; readonly modifiedMs: number }): string {
  return `${bytes} bytes, modified ${new Date(modifiedMs).toISOString()}`;
}
