/**
 * The QEMU process of a VM: found again by what was recorded when it started, never by a pid alone. A process counts
 * as the VM's only if its command line is that of a QEMU with the VM's name and UUID.
 */
import { readlink, realpath, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import * as v from 'valibot';
import { VM_FILES } from '../../paths.js';
import { NICS, type VmHandle } from '../../model/vm.js';
import type { WorkProcess } from '../hypervisor.js';
import { tailOfFile } from '../../util/exec.js';
import { readTextIfPresent, writeFileAtomically } from '../../util/fs.js';
import {
  type CommandLineTest,
  type ProcessIdentity,
  commandLineOf,
  findByCommandLine,
  identifyByCommandLine,
  identifyProcess,
  signalProcess,
} from '../../util/process.js';

const CRASH_LINES = 5;

const runtimeSchema = v.object({
  /** Null from before QEMU is spawned until its pid is known. */
  pid: v.nullable(v.number()),
  accelerator: v.picklist(['kvm', 'hvf', 'tcg']),
  /** Null until QEMU has told which ports it took. */
  forwards: v.nullable(v.array(v.object({ host: v.number(), guest: v.number() }))),
  /** The TAP device that was made for it, and where leases were to be looked for, as configured at its start. */
  tap: v.optional(v.nullable(v.object({ name: v.string(), leaseFiles: v.array(v.string()) })), null),
  /** The cards whose cable is out: QEMU itself does not tell. */
  unplugged: v.optional(v.array(v.picklist(NICS)), []),
});

/** What is known of the process since it was started; kept in the VM's directory. */
export type Runtime = v.InferOutput<typeof runtimeSchema>;

export async function writeRuntime(handle: VmHandle, runtime: Runtime): Promise<void> {
  await writeFileAtomically(join(handle.directory, VM_FILES.runtime), `${JSON.stringify(runtime)}\n`);
}

/** What was recorded at the last start; null where there was none, or the record is damaged. */
export async function readRuntime({ directory }: Pick<VmHandle, 'directory'>): Promise<Runtime | null> {
  return parseRuntime(await readTextIfPresent(join(directory, VM_FILES.runtime)));
}

function parseRuntime(text: string | null): Runtime | null {
  const parsed = v.safeParse(v.pipe(v.string(), v.parseJson(), runtimeSchema), text);
  return parsed.success ? parsed.output : null;
}

/** The living QEMU of a VM, and what was recorded of it. */
export interface LiveQemu {
  readonly process: ProcessIdentity;
  readonly runtime: Runtime;
}

/**
 * Finds the living QEMU of this VM; null when there is none. The recorded pid is tried first, then QEMU's own pidfile;
 * where a start was interrupted before either was written, or the record is damaged, every process is looked at.
 */
export async function findQemu(handle: VmHandle): Promise<LiveQemu | null> {
  const text = await readTextIfPresent(join(handle.directory, VM_FILES.runtime));
  const runtime = parseRuntime(text);
  const isQemu = isQemuOf(handle);
  let found: ProcessIdentity | null = null;
  for (const pid of [runtime?.pid ?? null, await readPidfile(handle)]) {
    if (pid !== null) found ??= await identifyByCommandLine(pid, isQemu);
  }
  const mayBeUnrecorded = text !== null && (runtime?.pid ?? null) === null;
  if (mayBeUnrecorded) found ??= (await findByCommandLine(isQemu))[0] ?? null;
  return found === null ? null : { process: found, runtime: runtime ?? (await askCommandLine(found)) };
}

async function askCommandLine({ pid }: ProcessIdentity): Promise<Runtime> {
  const words = (await commandLineOf(pid)) ?? [];
  const told = words[words.indexOf('-accel') + 1];
  return {
    pid,
    accelerator: told === 'kvm' || told === 'hvf' ? told : 'tcg',
    forwards: null,
    tap: null,
    unplugged: [],
  };
}

/**
 * The living QEMU of a VM whose UUID is lost: a process of that guest's name that works in the VM's directory.
 * Where this host does not tell a process's directory (`/proc`), none is found, and none is ended by mistake.
 */
export async function findQemuOfRemains(name: string, directory: string): Promise<ProcessIdentity | null> {
  const isLike: CommandLineTest = (words) => follows(words, '-name', `guest=${name}`);
  const pid = await readPidfile({ directory });
  const told = pid === null ? null : await identifyByCommandLine(pid, isLike);
  if (told !== null && (await worksIn(told.pid, directory))) return told;
  for (const candidate of await findByCommandLine(isLike)) {
    if (await worksIn(candidate.pid, directory)) return candidate;
  }
  return null;
}

/** The QEMUs that work, or worked, in a VM's directory below `vms`; null where this host does not tell (`/proc`). */
export async function findQemusBelow(vms: string): Promise<readonly WorkProcess[] | null> {
  if (process.platform !== 'linux') return null;
  const top = await realpath(vms).catch(() => vms);
  const found: WorkProcess[] = [];
  for (const { pid } of await findByCommandLine((words) => guestOf(words) !== null)) {
    const words = await commandLineOf(pid);
    const vm = words === null ? null : guestOf(words);
    const told = await readlink(`/proc/${pid}/cwd`).catch(() => null);
    if (vm === null || told === null || dirname(told) !== top) continue;
    // proc_pid_cwd(5): a directory that was removed is told with these words behind its name.
    found.push({ backend: 'qemu', pid, vm, directory: told.endsWith(' (deleted)') ? null : told });
  }
  return found;
}

export async function killByPid(pid: number): Promise<void> {
  const identity = await identifyProcess(pid);
  if (identity !== null) await signalProcess(identity, 'SIGKILL');
}

/** The VM that a QEMU's command line names; null for another program. */
function guestOf(words: readonly string[]): string | null {
  const name = words[words.indexOf('-name') + 1];
  return words.includes('-name') && words.includes('-uuid') && name?.startsWith('guest=') === true
    ? name.slice('guest='.length)
    : null;
}

async function worksIn(pid: number, directory: string): Promise<boolean> {
  try {
    // The state directory may be reached through a symbolic link; the kernel tells the real path.
    return (await readlink(`/proc/${pid}/cwd`)) === (await realpath(directory));
  } catch {
    return false;
  }
}

/**
 * The end of a QEMU of which none is left, where it was neither asked for nor the guest's own: QEMU removes its pidfile
 * however it exits (QEMU manual, "-pidfile"), and vmctl the one of a QEMU that it has killed.
 */
export async function crashOf(handle: VmHandle): Promise<{ crash?: { readonly log: string } }> {
  if ((await readPidfile(handle)) === null) return {};
  return { crash: { log: await tailOfFile(join(handle.directory, VM_FILES.qemuLog), CRASH_LINES) } };
}

export async function removePidfile({ directory }: Pick<VmHandle, 'directory'>): Promise<void> {
  await rm(join(directory, VM_FILES.pidfile), { force: true });
}

async function readPidfile(handle: Pick<VmHandle, 'directory'>): Promise<number | null> {
  const text = await readTextIfPresent(join(handle.directory, VM_FILES.pidfile));
  const pid = text === null ? Number.NaN : Number.parseInt(text, 10);
  return Number.isSafeInteger(pid) ? pid : null;
}

/** Not any process that has the UUID among its words: somebody may be looking for the VM with `pgrep`. */
function isQemuOf(handle: VmHandle): CommandLineTest {
  return (words) => follows(words, '-name', `guest=${handle.name}`) && follows(words, '-uuid', handle.uuid);
}

function follows(words: readonly string[], option: string, value: string): boolean {
  return words.some((word, index) => word === value && words[index - 1] === option);
}
