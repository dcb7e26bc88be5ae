/**
 * Where a machine's memory is, decided before it starts. A file that has no space of its own on the disk would end QEMU
 * (SIGBUS, mmap(2)) as soon as the guest uses more of its memory and the disk is full; so the space is kept first.
 */
import { open, rm, stat, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import { VmctlError, toVmctlError, unreachable } from '../../errors.js';
import { reserveSpace } from '../../image/file-space.js';
import type { VmHandle } from '../../model/vm.js';
import { PRIVATE_FILE_MODE, VM_FILES } from '../../paths.js';
import { stateDirectoryError } from '../../util/fs.js';
import type { Capability, StartMode } from '../hypervisor.js';
import type { MemoryPlace } from './command-line.js';

const MEBIBYTE = 1024 ** 2;

/** What is left beside the memory: a guest that is provisioned writes to its disk as well, and others do to theirs. */
const MARGIN_MIB = 1024;

/** Decides it; a file of before is removed unless it was made for this start. */
export async function placeMemory(handle: VmHandle, mode: StartMode): Promise<MemoryPlace> {
  if (mode.kind === 'freezable') return { kind: 'file', path: VM_FILES.memory, shared: true };
  await removeMemory(handle);
  switch (mode.kind) {
    case 'boot':
      return { kind: 'own' };
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

/**
 * Makes the file for a machine that is to be started `freezable`, as large as the guest's memory and with its space on
 * the disk; says why not where there is too little. Where the file system keeps no space, it is only looked for.
 */
export async function reserveMemory(handle: VmHandle, signal: AbortSignal): Promise<Capability> {
  const { directory, spec } = handle;
  const path = join(directory, VM_FILES.memory);
  await removeMemory(handle);
  const before = await findRoom(directory, spec.memoryMib + MARGIN_MIB);
  if (!before.supported) return before;
  await makeEmpty(path, spec.memoryMib * MEBIBYTE);
  const kept = await reserveSpace(path, spec.memoryMib * MEBIBYTE, { signal }).then(
    () => true,
    (error: unknown) => {
      if (toVmctlError(error).code === 'COMMAND_FAILED') return false;
      throw error;
    },
  );
  if (!kept) await makeEmpty(path, spec.memoryMib * MEBIBYTE);
  // Another machine may have taken what was there.
  const after = await findRoom(directory, kept ? MARGIN_MIB : spec.memoryMib + MARGIN_MIB);
  if (!after.supported) await removeMemory(handle);
  return after;
}

async function findRoom(directory: string, neededMib: number): Promise<Capability> {
  const { bavail, bsize } = await statfs(directory);
  const freeMib = Math.floor((bavail * bsize) / MEBIBYTE);
  if (freeMib >= neededMib) return { supported: true };
  const reason = `that takes ${neededMib} MiB on the disk of ${directory} for its memory and what it writes, and ${freeMib} MiB are free`;
  return { supported: false, reason };
}

/** Without a byte in it, and with its mode. */
async function makeEmpty(path: string, bytes: number): Promise<void> {
  try {
    const file = await open(path, 'w', PRIVATE_FILE_MODE);
    try {
      await file.truncate(bytes);
    } finally {
      await file.close();
    }
  } catch (error) {
    throw stateDirectoryError('write', path, error);
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
