/** Named snapshots: a VM as it is at a moment, disk and memory, and back to that moment any number of times. */
import { dirname, join, resolve } from 'node:path';
import { VmctlError } from '../src/errors.js';
import { FROZEN_FILES, noMemorySnapshots } from '../src/hypervisor/hypervisor.js';
import { readDiskHeader } from '../src/image/disk-header.js';
import type { StageContext } from '../src/model/event.js';
import type { RunningVm, StoppedVm, VmHandle } from '../src/model/vm.js';
import { VM_FILES } from '../src/paths.js';
import type { RegistryEntry } from '../src/registry.js';
import { exists } from '../src/util/fs.js';
import { didYouMean } from '../src/vmfile/suggest.js';
import { differences } from '../src/warm/key.js';
import {
  type KeptSnapshot,
  type Snapshot,
  beginSnapshot,
  giveUpSnapshot,
  keptDisks,
  listSnapshots,
  publishSnapshot,
  sweepSnapshots,
} from '../src/warm/snapshots.js';
import type { TaskEnvironment } from './context.js';
import { forgetEnd } from './forget-end.js';
import { notLive } from './not-live.js';
import { onSamePorts } from './ports.js';
import { settleRestored } from './settle-restored.js';
import { singleStepTasks } from './single-step.js';
import { stopVm } from './stop.js';
import { isUnsettled, unsettledError } from './unsettled.js';
import { type TaskGraph, runningSummary } from './up.js';
import { settleFrozen } from './warm-restore.js';

export interface SnapshotTarget {
  readonly entry: RegistryEntry;
  readonly tag: string;
}

/** Letters, digits and a few signs: a tag is typed in a shell. */
const TAG = /^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/;

export function snapshotTasks(env: TaskEnvironment, { entry, tag }: SnapshotTarget): TaskGraph {
  return singleStepTasks(env, [entry], {
    step: 'snapshot',
    work: async (_entry, context) => {
      const vm = await takeSnapshot(env, { entry, tag }, context);
      return { done: `kept as "${tag}"; ${runningSummary(vm)}` };
    },
  });
}

export function restoreTasks(env: TaskEnvironment, { entry, tag }: SnapshotTarget): TaskGraph {
  return singleStepTasks(env, [entry], {
    step: 'restore',
    work: async (_entry, context) => {
      const vm = await restoreSnapshot(env, { entry, tag }, context);
      return { done: `as it was at "${tag}"; ${runningSummary(vm)}` };
    },
  });
}

/** Gives up the snapshot. Throws `SNAPSHOT_NOT_FOUND`. */
export function deleteTasks(env: TaskEnvironment, { entry, tag }: SnapshotTarget): TaskGraph {
  return singleStepTasks(env, [entry], {
    step: 'snapshot',
    work: async () => {
      const handle = await env.registry.handle(entry);
      await giveUpSnapshot(await findSnapshot(handle, tag));
      await sweep(handle);
      return { done: `"${tag}" is gone` };
    },
  });
}

/** The snapshots of VMs, those of each with the oldest first. */
export async function snapshotsOf(entries: readonly RegistryEntry[]) {
  const found = await Promise.all(
    entries.map(async (entry) => (await listSnapshots(entry)).map((snapshot) => ({ vm: entry.name, ...snapshot }))),
  );
  return found.flat();
}

async function takeSnapshot(
  env: TaskEnvironment,
  { entry, tag }: SnapshotTarget,
  context: StageContext,
): Promise<RunningVm> {
  const handle = await env.registry.handle(entry);
  await assertNewTag(handle, tag);
  const { memorySnapshots } = env.hypervisor.capabilitiesOf(handle);
  if (!memorySnapshots.supported) throw noMemorySnapshots(entry.name, memorySnapshots.reason);
  const observed = await env.hypervisor.observe(handle);
  if (observed.state !== 'running') throw notLive(observed, 'snapshot');
  if (await isUnsettled(env, entry)) throw unsettledError(entry.name, 'snapshot');
  const { provisioning, steps, consoleStart } = await env.registry.record(entry);
  const facts = await env.hypervisor.stateFacts(context.signal);
  const staging = await beginSnapshot(handle);
  context.reporter.status('saving its memory');
  const stopped = await env.hypervisor.freeze(observed, staging, context);
  const takenAt = new Date().toISOString();
  const kept = await publishSnapshot(handle, { tag, takenAt, facts, provisioning, steps: [...steps], consoleStart });
  const { forwards, unplugged } = observed;
  return goOn(env, { entry, stopped, from: kept, outside: { forwards, unplugged } }, context);
}

async function restoreSnapshot(
  env: TaskEnvironment,
  { entry, tag }: SnapshotTarget,
  context: StageContext,
): Promise<RunningVm> {
  const handle = await env.registry.handle(entry);
  const snapshot = await findSnapshot(handle, tag);
  await assertSameConditions(env, snapshot, context);
  const observed = await env.hypervisor.observe(handle);
  context.reporter.status('ending it as it is');
  await stopVm(env, { handle, graceMs: 0 }, context);
  const stopped = await settleFrozen(env, { state: 'stopped', handle }, context);
  const forwards = observed.state === 'stopped' ? [] : observed.forwards;
  const vm = await goOn(env, { entry, stopped, from: snapshot, outside: { forwards, unplugged: [] } }, context);
  await sweep(vm.handle);
  return vm;
}

interface GoOn {
  readonly entry: RegistryEntry;
  readonly stopped: StoppedVm;
  readonly from: KeptSnapshot;
  /** What it had around it, and is to have again: its ports of this host, none where it did not run, and its cables. */
  readonly outside: Pick<RunningVm, 'forwards' | 'unplugged'>;
}

/** From a snapshot, be it of this moment or of long ago: to the VM the two are the same. */
async function goOn(
  env: TaskEnvironment,
  { entry, stopped, from, outside }: GoOn,
  context: StageContext,
): Promise<RunningVm> {
  const { folder, provisioning, steps, consoleStart } = from;
  const { forwards, unplugged } = outside;
  const branched = await env.hypervisor.branch(stopped, folder, context);
  await env.registry.updateRecord(entry, { provisioning, steps, consoleStart });
  await forgetEnd(branched.handle);
  const memory = join(folder, FROZEN_FILES.memory);
  const saved = { state: join(folder, FROZEN_FILES.state), memory: (await exists(memory)) ? memory : null };
  context.reporter.status('going on from what was kept');
  const vm = await onSamePorts(forwards, (ports) =>
    env.hypervisor.start(branched, context, { kind: 'restore', saved, unplugged, ...ports }),
  );
  await settleRestored(env, { vm, entry }, context);
  // Whatever it was on the way to be before: snapshots are of settled VMs.
  const { warm } = await env.registry.record(entry);
  await env.registry.updateRecord(entry, {
    lastFailure: null,
    warm: warm === null ? null : { ...warm, settled: true },
  });
  return vm;
}

async function assertNewTag(handle: VmHandle, tag: string): Promise<void> {
  if (!TAG.test(tag)) {
    throw new VmctlError('USAGE', `a snapshot cannot be called ${JSON.stringify(tag)}`, {
      hint: 'Use up to 63 letters, digits, dots, hyphens and underscores, the first a letter or a digit.',
      fields: { vm: handle.name, tag },
    });
  }
  if (!(await listSnapshots(handle)).some((snapshot) => snapshot.tag === tag)) return;
  throw new VmctlError('USAGE', `VM "${handle.name}" has a snapshot "${tag}" already`, {
    hint: `Take another name, or remove it first: vmctl snapshot ${handle.name} ${tag} --delete`,
    fields: { vm: handle.name, tag },
  });
}

async function findSnapshot(handle: VmHandle, tag: string): Promise<Snapshot> {
  const all = await listSnapshots(handle);
  const found = all.find((snapshot) => snapshot.tag === tag);
  if (found !== undefined) return found;
  const tags = all.map((snapshot) => snapshot.tag);
  const none = `It has none yet; make one with: vmctl snapshot ${handle.name} ${tag}`;
  throw new VmctlError('SNAPSHOT_NOT_FOUND', `VM "${handle.name}" has no snapshot "${tag}"`, {
    hint: didYouMean(tag, tags, '"') ?? (tags.length === 0 ? none : `There are: ${tags.join(', ')}.`),
    fields: { vm: handle.name, tag },
  });
}

/** The state of a machine fits the same program with the same processor alone. */
async function assertSameConditions(env: TaskEnvironment, { tag, facts }: Snapshot, context: StageContext) {
  const changed = differences(facts, await env.hypervisor.stateFacts(context.signal));
  if (changed.length === 0) return;
  throw new VmctlError(
    'UNSUPPORTED',
    `the snapshot "${tag}" does not fit this host any more: another ${changed.join(', ')}`,
    {
      hint: 'Restore it where it was taken, or put back what was changed.',
      fields: { tag },
    },
  );
}

/** Removes what was kept under names that are given up, where no disk stands on it. */
async function sweep(handle: VmHandle): Promise<void> {
  const disks = await keptDisks(handle);
  const roots = [
    join(handle.directory, VM_FILES.overlay),
    ...disks.filter(({ named }) => named).map(({ path }) => path),
  ];
  const needed = new Set<string>();
  // A set that grows while it is walked through gives what was added, too.
  const toLookAt = new Set(roots);
  for (const disk of toLookAt) {
    const below = await backingOf(disk);
    if (below === null) continue;
    needed.add(below);
    toLookAt.add(below);
  }
  await sweepSnapshots(handle, needed);
}

/** Null where there is none, or where the disk is no qcow2 file: then nothing is below it. */
async function backingOf(disk: string): Promise<string | null> {
  if (!(await exists(disk))) return null;
  const header = await readDiskHeader(disk);
  if (header.format !== 'qcow2' || header.backingFile === null) return null;
  return resolve(dirname(disk), header.backingFile);
}
