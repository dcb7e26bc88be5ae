/**
 * What was kept of one VM under names: a folder for each in the VM's own, with what a frozen VM has. Disks stand on one
 * another, so a folder whose name was given up stays with its disk for as long as another disk stands on that.
 */
import { randomUUID } from 'node:crypto';
import { readdir, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import * as v from 'valibot';
import { FROZEN_FILES } from '../hypervisor/hypervisor.js';
import { FROZEN_KEY } from '../model/warm.js';
import { VM_FILES } from '../paths.js';
import { diskUsage } from '../util/disk-usage.js';
import { exists, isMissing, makeDirectory, readTextIfPresent, syncFiles, writeFileAtomically } from '../util/fs.js';

const DESCRIPTION = 'snapshot.json';

const descriptionSchema = v.object({
  tag: v.string(),
  /** ISO 8601. */
  takenAt: v.string(),
  /** What its state depends on besides the VM: see `stateFacts` of a backend. */
  facts: v.record(v.string(), v.string()),
  /** How far the VM was provisioned then. */
  provisioning: v.picklist(['pending', 'done', 'failed']),
  steps: v.array(v.object({ number: v.number(), digest: v.string() })),
  /** Where what its console had printed since its guest booted begins; absent where that is the beginning. */
  consoleStart: v.optional(v.object({ from: v.number(), frozen: v.nullable(v.pipe(v.string(), v.regex(FROZEN_KEY))) })),
});

export type SnapshotDescription = v.InferOutput<typeof descriptionSchema>;

/** What is kept in a folder, complete. */
export interface KeptSnapshot extends SnapshotDescription {
  /** Absolute path. */
  readonly folder: string;
}

export interface Snapshot extends KeptSnapshot {
  /** On the disk. */
  readonly bytes: number;
}

/** A VM's own directory. */
type Place = { readonly directory: string };

/** A folder that begins with a dot is being made, or a killed process has left it. */
const STAGING = '.partial';

/** The oldest first. */
export async function listSnapshots(vm: Place): Promise<readonly Snapshot[]> {
  const folders = (await foldersOf(vm)).filter(({ complete }) => complete);
  const found = await Promise.all(folders.map(({ path }) => lookAt(path)));
  return found.filter((one) => one !== null).toSorted((a, b) => (a.takenAt < b.takenAt ? -1 : 1));
}

async function lookAt(folder: string): Promise<Snapshot | null> {
  const text = await readTextIfPresent(join(folder, DESCRIPTION));
  const parsed = v.safeParse(v.pipe(v.string(), v.parseJson(), descriptionSchema), text);
  return parsed.success ? { ...parsed.output, folder, bytes: await diskUsage(folder) } : null;
}

/** An empty folder. The caller holds the VM's lock until the end. */
export async function beginSnapshot({ directory }: Place): Promise<string> {
  const staging = join(directory, VM_FILES.snapshots, STAGING);
  await rm(staging, { recursive: true, force: true });
  await makeDirectory(staging);
  return staging;
}

/** Moves what is in the staging folder to where it stays, with what is known of it. */
export async function publishSnapshot({ directory }: Place, description: SnapshotDescription): Promise<KeptSnapshot> {
  const folder = join(directory, VM_FILES.snapshots, randomUUID());
  const staging = join(directory, VM_FILES.snapshots, STAGING);
  await syncFiles(staging);
  await writeFileAtomically(join(staging, DESCRIPTION), `${JSON.stringify(description, null, 2)}\n`);
  await rename(staging, folder);
  return { ...description, folder };
}

/** Gives up the name, the memory and the state; `sweepSnapshots` removes the disk when nothing stands on it. */
export async function giveUpSnapshot({ folder }: Pick<Snapshot, 'folder'>): Promise<void> {
  await rm(join(folder, DESCRIPTION), { force: true });
  for (const name of [FROZEN_FILES.state, FROZEN_FILES.memory]) await rm(join(folder, name), { force: true });
}

/** Removes nameless folders whose disk is not among those that are needed, and what killed processes have left. */
export async function sweepSnapshots(vm: Place, neededDisks: ReadonlySet<string>): Promise<void> {
  for (const { path, complete } of await foldersOf(vm)) {
    const named = complete && (await exists(join(path, DESCRIPTION)));
    if (named || (complete && neededDisks.has(join(path, FROZEN_FILES.disk)))) continue;
    await rm(path, { recursive: true, force: true });
  }
}

/** All disks that were kept, those without a name included, as absolute paths. */
export async function keptDisks(vm: Place): Promise<readonly { readonly path: string; readonly named: boolean }[]> {
  const folders = (await foldersOf(vm)).filter(({ complete }) => complete);
  return Promise.all(
    folders.map(async ({ path }) => ({
      path: join(path, FROZEN_FILES.disk),
      named: await exists(join(path, DESCRIPTION)),
    })),
  );
}

/** The complete or incomplete snapshot whose disk this file is; null where it is none. */
export async function findSnapshotByDisk(
  vm: Place,
  inode: number,
): Promise<{ readonly path: string; readonly complete: boolean } | null> {
  for (const folder of await foldersOf(vm)) {
    const disk = await stat(join(folder.path, FROZEN_FILES.disk)).catch(() => null);
    if (disk?.ino === inode) return folder;
  }
  return null;
}

async function foldersOf({ directory }: Place) {
  const parent = join(directory, VM_FILES.snapshots);
  try {
    return (await readdir(parent)).map((name) => ({ path: join(parent, name), complete: !name.startsWith('.') }));
  } catch (error) {
    if (isMissing(error)) return [];
    throw error;
  }
}
