/** Where a machine's memory is, decided when it starts. */
import { open, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { VmctlError, unreachable } from '../../errors.js';
import type { VmHandle } from '../../model/vm.js';
import { PRIVATE_FILE_MODE, VM_FILES } from '../../paths.js';
import type { StartMode } from '../hypervisor.js';
import type { MemoryPlace } from './command-line.js';

const MEBIBYTE = 1024 ** 2;

/** Makes the file where there is to be one; what a machine of before has left is removed first. */
export async function placeMemory(handle: VmHandle, mode: StartMode): Promise<MemoryPlace> {
  await removeMemory(handle);
  switch (mode.kind) {
    case 'boot':
      return { kind: 'own' };
    case 'freezable':
      await makeMemory(handle);
      return { kind: 'file', path: VM_FILES.memory, shared: true };
    case 'restore': {
      const { memory } = mode.saved;
      if (memory === null) return { kind: 'own' };
      await checkMemory(handle, memory);
      return { kind: 'file', path: memory, shared: false };
    }
    default:
      return unreachable(mode);
  }
}

export async function removeMemory({ directory }: Pick<VmHandle, 'directory'>): Promise<void> {
  await rm(join(directory, VM_FILES.memory), { force: true });
}

/** As large as the guest's memory, and without a byte in it: what the guest does not use takes no space. */
async function makeMemory({ directory, spec }: VmHandle): Promise<void> {
  const path = join(directory, VM_FILES.memory);
  const file = await open(path, 'wx', PRIVATE_FILE_MODE);
  try {
    await file.truncate(spec.memoryMib * MEBIBYTE);
  } finally {
    await file.close();
  }
}

/** QEMU would make a file of another size fit, and so change what others stand on. */
async function checkMemory({ name, spec }: VmHandle, path: string): Promise<void> {
  const bytes = await stat(path).then(
    ({ size }) => size,
    () => null,
  );
  if (bytes === spec.memoryMib * MEBIBYTE) return;
  const found = bytes === null ? 'is gone' : `has ${bytes} bytes, not ${spec.memoryMib} MiB`;
  throw new VmctlError('QEMU_START', `VM "${name}" cannot go on from its saved memory: ${path} ${found}`, {
    fields: { vm: name, path },
  });
}
