/**
 * VMs that are suspended to the disk: stopped, with their memory and devices in a file beside their disk. What was saved
 * fits the disk as it was then, and no other: one that was written to since makes it worthless.
 */
import { readFile, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import * as v from 'valibot';
import { noMemorySnapshots } from '../src/hypervisor/hypervisor.js';
import type { StageContext } from '../src/model/event.js';
import type { RunningVm, StoppedVm, VmHandle } from '../src/model/vm.js';
import { VM_FILES } from '../src/paths.js';
import type { RegistryEntry } from '../src/registry.js';
import { removeFile, writeFileAtomically } from '../src/util/fs.js';
import type { TaskEnvironment } from './context.js';
import { notLive } from './not-live.js';
import { settleRestored } from './settle-restored.js';
import { singleStepTasks } from './single-step.js';
import { forgetRequest, stopVm } from './stop.js';
import type { TaskGraph } from './up.js';

const factsSchema = v.object({
  /** ISO 8601. */
  suspendedAt: v.string(),
  /** Of the disk. */
  bytes: v.number(),
  modifiedMs: v.number(),
});

export function suspendToDiskTasks(env: TaskEnvironment, entries: readonly RegistryEntry[]): TaskGraph {
  return singleStepTasks(env, entries, {
    step: 'suspend',
    work: async (entry, context) => {
      const handle = await env.registry.handle(entry);
      const { memorySnapshots } = env.hypervisor.capabilitiesOf(handle);
      if (!memorySnapshots.supported) throw noMemorySnapshots(entry.name, memorySnapshots.reason);
      const observed = await env.hypervisor.observe(handle);
      if (observed.state === 'stopped') {
        if ((await suspendedAt(handle)) !== null) return { skipped: 'already suspended to the disk' };
        throw notLive(observed, 'suspend');
      }
      context.reporter.status('saving its memory');
      await forgetSuspended(handle);
      await env.hypervisor.save(observed, join(handle.directory, VM_FILES.suspended), context);
      await stopVm(env, { handle, graceMs: 0 }, context);
      // Not asked to power off, and so not to be taken for one that was.
      await forgetRequest(handle);
      const disk = await diskFacts(handle);
      const facts = { suspendedAt: new Date().toISOString(), ...disk };
      await writeFileAtomically(join(handle.directory, VM_FILES.suspendedFacts), `${JSON.stringify(facts)}\n`);
      return { done: `saved; continue it with: vmctl resume ${entry.name}` };
    },
  });
}

/** When a stopped VM was suspended to the disk, in ISO 8601; null where it was not, or where its disk was written to since. */
export async function suspendedAt(handle: VmHandle): Promise<string | null> {
  const text = await readFile(join(handle.directory, VM_FILES.suspendedFacts), 'utf8').catch(() => null);
  if (text === null) return null;
  const parsed = v.safeParse(v.pipe(v.string(), v.parseJson(), factsSchema), text);
  if (!parsed.success) return null;
  const disk = await diskFacts(handle);
  const { suspendedAt: time, bytes, modifiedMs } = parsed.output;
  return bytes === disk.bytes && modifiedMs === disk.modifiedMs ? time : null;
}

/** Lets a VM that is suspended to the disk go on, where it is; null where it is not. What was saved is gone afterwards. */
export async function resumeFromDisk(
  env: TaskEnvironment,
  stopped: StoppedVm,
  context: StageContext,
): Promise<RunningVm | null> {
  const { handle } = stopped;
  if ((await suspendedAt(handle)) === null) {
    await forgetSuspended(handle);
    return null;
  }
  context.reporter.status('going on from its saved memory');
  const state = join(handle.directory, VM_FILES.suspended);
  const vm = await env.hypervisor.start(stopped, context, { kind: 'restore', saved: { state, memory: null } });
  // A guest that has written to its disk since makes it worthless anyway: see `suspendedAt`.
  await forgetSuspended(handle);
  await settleRestored(env, vm, context);
  return vm;
}

/** Gives up what was saved. */
export async function forgetSuspended({ directory }: VmHandle): Promise<void> {
  await removeFile(join(directory, VM_FILES.suspendedFacts));
  await rm(join(directory, VM_FILES.suspended), { force: true });
}

/** Zeros for a VM of a backend that makes it no disk. */
async function diskFacts({ directory }: VmHandle): Promise<{ readonly bytes: number; readonly modifiedMs: number }> {
  const facts = await stat(join(directory, VM_FILES.overlay)).catch(() => null);
  return { bytes: facts?.size ?? 0, modifiedMs: Math.trunc(facts?.mtimeMs ?? 0) };
}
