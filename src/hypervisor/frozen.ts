/** What backends share about frozen VMs: what there is in the folder of one besides disk, memory and state. */
import { chmod, copyFile, readFile, realpath, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import * as v from 'valibot';
import { VmctlError } from '../errors.js';
import type { BaseImage, VmHandle } from '../model/vm.js';
import { PRIVATE_FILE_MODE, VM_FILES } from '../paths.js';
import { exists, writeFileAtomically } from '../util/fs.js';
import { FROZEN_FILES } from './hypervisor.js';

/** What a VM that starts from a frozen one needs a copy of, where there is such a file. */
const COMPANIONS = [
  VM_FILES.seed,
  VM_FILES.privateKey,
  VM_FILES.publicKey,
  VM_FILES.knownHosts,
  VM_FILES.firmwareVariables,
] as const;

const ORIGIN = 'origin.json';

const originSchema = v.object({
  name: v.string(),
  mac: v.nullable(v.string()),
  /** Of the disk. */
  virtualBytes: v.number(),
});

/** What is kept of the handle of the VM that was frozen. */
export type Origin = v.InferOutput<typeof originSchema>;

/** Copies everything but disk, memory and state. */
export async function keepCompanions(handle: VmHandle, folder: string): Promise<void> {
  const { directory, spec, image, name, mac } = handle;
  for (const file of COMPANIONS) await copyIfPresent(join(directory, file), join(folder, file));
  const origin: Origin = { name, mac, virtualBytes: Math.max(image.virtualBytes, spec.diskBytes ?? 0) };
  await writeFile(join(folder, ORIGIN), `${JSON.stringify(origin)}\n`, { mode: PRIVATE_FILE_MODE });
}

/** The same into the directory of a VM that starts from it, and may have another name. */
export async function takeCompanions(folder: string, directory: string, name: string): Promise<void> {
  for (const file of COMPANIONS) await copyIfPresent(join(folder, file), join(directory, file));
  await renameHost(join(directory, VM_FILES.knownHosts), (await readOrigin(folder)).name, name);
}

/** The frozen disk as the image of others. */
export async function frozenImage(folder: string): Promise<BaseImage> {
  // A run reaches the folder of all by a link of its own.
  const path = await realpath(join(folder, FROZEN_FILES.disk));
  const { virtualBytes } = await readOrigin(folder);
  const { size, mtimeMs } = await stat(path);
  return { path, format: 'qcow2', virtualBytes, file: { bytes: size, modifiedMs: Math.trunc(mtimeMs) } };
}

/** Throws `VM_DAMAGED` where it is not there or unreadable. */
export async function readOrigin(folder: string): Promise<Origin> {
  const text = await readFile(join(folder, ORIGIN), 'utf8').catch(() => null);
  const parsed = v.safeParse(v.pipe(v.string(), v.parseJson(), originSchema), text);
  if (parsed.success) return parsed.output;
  throw new VmctlError('VM_DAMAGED', `the frozen VM in ${folder} is not complete: ${ORIGIN} cannot be read`, {
    fields: { path: folder },
  });
}

/** Records that the VM stands on the frozen one's disk from now on. */
export async function recordBranch(handle: VmHandle, image: BaseImage): Promise<VmHandle> {
  const branched = { ...handle, image };
  await writeFileAtomically(join(handle.directory, VM_FILES.handle), `${JSON.stringify(branched, null, 2)}\n`);
  return branched;
}

/** The pinned host key stands under the VM's name (sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT"). */
async function renameHost(path: string, from: string, to: string): Promise<void> {
  if (from === to || !(await exists(path))) return;
  const lines = (await readFile(path, 'utf8')).split('\n');
  const renamed = lines.map((line) => (line.startsWith(`${from} `) ? `${to}${line.slice(from.length)}` : line));
  await writeFile(path, renamed.join('\n'), { mode: PRIVATE_FILE_MODE });
}

export async function copyIfPresent(from: string, to: string): Promise<void> {
  if (!(await exists(from))) return;
  await copyFile(from, to);
  await chmod(to, PRIVATE_FILE_MODE);
}
