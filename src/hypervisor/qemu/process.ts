/**
 * The QEMU process of a VM: found again by what was recorded when it started, never by a pid alone. A process counts
 * as the VM's only if its command line has the VM's UUID.
 */
import { readlink } from 'node:fs/promises';
import { join } from 'node:path';
import * as v from 'valibot';
import { VM_FILES } from '../../paths.js';
import type { VmHandle } from '../../model/vm.js';
import { readTextIfPresent, writeFileAtomically } from '../../util/fs.js';
import { type ProcessIdentity, commandLineOf, findProcessByWord, identifyProcess } from '../../util/process.js';

const runtimeSchema = v.object({
  /** Null from before QEMU is spawned until its pid is known. */
  pid: v.nullable(v.number()),
  accelerator: v.picklist(['kvm', 'hvf', 'tcg']),
  /** Null until QEMU has told which ports it took. */
  forwards: v.nullable(v.array(v.object({ host: v.number(), guest: v.number() }))),
});

/** What is known of the process since it was started; kept in the VM's directory. */
export type Runtime = v.InferOutput<typeof runtimeSchema>;

/** Null where the VM was never started, or the file cannot be read. */
export async function readRuntime(handle: VmHandle): Promise<Runtime | null> {
  const text = await readTextIfPresent(join(handle.directory, VM_FILES.runtime));
  const runtime = v.safeParse(v.pipe(v.string(), v.parseJson(), runtimeSchema), text);
  return runtime.success ? runtime.output : null;
}

export async function writeRuntime(handle: VmHandle, runtime: Runtime): Promise<void> {
  await writeFileAtomically(join(handle.directory, VM_FILES.runtime), `${JSON.stringify(runtime)}\n`);
}

/**
 * The living QEMU of this VM. The recorded pid is tried first, then QEMU's own pidfile; where a start was interrupted
 * before either was written, every process is looked at.
 */
export async function findQemu(handle: VmHandle, runtime: Runtime): Promise<ProcessIdentity | null> {
  for (const pid of [runtime.pid, await readPidfile(handle)]) {
    if (pid !== null && (await isQemuOf(handle, pid))) return identifyProcess(pid);
  }
  if (runtime.pid !== null) return null;
  const found = await findProcessByWord(handle.uuid);
  return found === null ? null : identifyProcess(found);
}

/**
 * The living QEMU of a VM whose UUID is lost: a process of that guest's name that works in the VM's directory.
 * Where this host does not tell a process's directory (`/proc`), none is found, and none is ended by mistake.
 */
export async function findQemuOfRemains(name: string, directory: string): Promise<ProcessIdentity | null> {
  const pid = await readPidfile({ directory });
  if (pid === null) return null;
  const words = await commandLineOf(pid);
  const workingDirectory = await readlink(`/proc/${pid}/cwd`).catch(() => null);
  const isIt = words?.includes(`guest=${name}`) === true && workingDirectory === directory;
  return isIt ? identifyProcess(pid) : null;
}

async function readPidfile(handle: Pick<VmHandle, 'directory'>): Promise<number | null> {
  const text = await readTextIfPresent(join(handle.directory, VM_FILES.pidfile));
  const pid = text === null ? Number.NaN : Number.parseInt(text, 10);
  return Number.isSafeInteger(pid) ? pid : null;
}

async function isQemuOf(handle: VmHandle, pid: number): Promise<boolean> {
  const words = await commandLineOf(pid);
  return words?.includes(handle.uuid) === true;
}
