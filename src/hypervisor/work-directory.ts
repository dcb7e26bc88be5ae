/** The VM's own directory: it comes into being complete, by a rename, and goes away by one. */
import { createHash } from 'node:crypto';
import { rename, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { VmctlError } from '../errors.js';
import { PRIVATE_FILE_MODE, VM_FILES } from '../paths.js';
import type { ResolvedVm, VmHandle } from '../model/vm.js';
import { errorCode, exists, makeDirectory, stateDirectoryError, syncFiles, writeFileAtomically } from '../util/fs.js';
import type { PrepareOptions } from './hypervisor.js';

/** Builds the directory in the staging place with `fill`, records the handle, and moves it to where it belongs. */
export async function buildWorkDirectory(
  options: PrepareOptions,
  fill: (directory: string) => Promise<VmHandle>,
): Promise<VmHandle> {
  await rm(options.staging, { recursive: true, force: true });
  await makeDirectory(options.staging);
  try {
    const handle = await fill(options.staging);
    const { durable = true, record } = options;
    const text = `${JSON.stringify(handle, null, 2)}\n`;
    const write = (name: string, content: string) =>
      writeFileAtomically(join(options.staging, name), content, { durable: false });
    await write(VM_FILES.handle, text);
    if (record !== undefined) await write(VM_FILES.record, record);
    // All of it, before it has its name: a VM with an empty key or a torn disk would be one that nobody can repair.
    if (durable) await syncFiles(options.staging);
    await rename(options.staging, options.directory);
    return handle;
  } catch (error) {
    await rm(options.staging, { recursive: true, force: true });
    const isRefusal = !(error instanceof VmctlError) && errorCode(error) !== null;
    throw isRefusal ? stateDirectoryError('write', options.staging, error) : error;
  }
}

/** Writes the keys: the user's, and the host key that the guest will show, pinned under the VM's name (sshd(8)). */
export async function writeGuestAccess(directory: string, vm: ResolvedVm): Promise<void> {
  const write = (name: string, text: string) => writeFile(join(directory, name), text, { mode: PRIVATE_FILE_MODE });
  if (vm.userKey !== null) {
    await write(VM_FILES.privateKey, vm.userKey.privateKey);
    await write(VM_FILES.publicKey, `${vm.userKey.publicKey}\n`);
  }
  if (vm.seed !== null) {
    const [type, key] = vm.seed.hostKey.publicKey.split(' ');
    await write(VM_FILES.knownHosts, `${vm.spec.name} ${type} ${key}\n`);
  }
}

/** Moves the directory out of the way first, so that a removal that is killed leaves no half VM. */
export async function removeWorkDirectory(directory: string): Promise<void> {
  const doomed = join(dirname(directory), `.removing-${directory.slice(dirname(directory).length + 1)}`);
  await rm(doomed, { recursive: true, force: true });
  if (!(await exists(directory))) return;
  await rename(directory, doomed);
  await rm(doomed, { recursive: true, force: true });
}

/** A MAC address in QEMU's range 52:54:00, the same each time for the same VM of the same VMFile. */
export function stableMac(project: string | null, name: string): string {
  const digest = createHash('sha256')
    .update(JSON.stringify([project, name]))
    .digest('hex');
  return `52:54:00:${digest.slice(0, 2)}:${digest.slice(2, 4)}:${digest.slice(4, 6)}`;
}
