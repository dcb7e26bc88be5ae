/**
 * The folder of frozen VMs, one folder for each key. A frozen VM appears complete, by a rename, and disappears by one;
 * what begins with a dot is being made or removed, or a killed process has left it.
 */
import { rename, rm, stat, utimes } from 'node:fs/promises';
import { join } from 'node:path';
import { FROZEN_FILES } from '../hypervisor/hypervisor.js';
import { FROZEN_KEY } from '../model/warm.js';
import type { StatePaths } from '../paths.js';
import { diskUsage } from '../util/disk-usage.js';
import { exists, makeDirectory, namesIn, syncFiles } from '../util/fs.js';
import { type Description, type Manifest, readManifest, writeManifest } from './manifest.js';

/** In the folder of one that was frozen with its memory: what its guest had printed on its console since it booted. */
export const FROZEN_CONSOLE = 'console.log';

export type WarmPaths = Pick<StatePaths, 'warm' | 'frozen' | 'frozenStaging' | 'frozenLock'>;

/** A frozen VM. */
export interface FrozenVm {
  readonly key: string;
  /** Absolute path of its folder. */
  readonly folder: string;
  /** Null where it cannot be used: it is damaged, or of another version of vmctl. */
  readonly manifest: Manifest | null;
  /** On the disk. */
  readonly bytes: number;
  /** When a VM was started from it, or it was frozen, in milliseconds since the epoch. */
  readonly lastUsedAt: number;
}

const STAGING = /^\.([0-9a-f]{32})\.(?:partial|removing)$/;

/** All of them, the one that was used last first. */
export async function listFrozen(paths: WarmPaths): Promise<readonly FrozenVm[]> {
  const keys = (await namesIn(paths.warm)).filter((name) => FROZEN_KEY.test(name));
  const found = await Promise.all(keys.map((key) => lookAt(paths, key)));
  return found.filter((frozen) => frozen !== null).toSorted((a, b) => b.lastUsedAt - a.lastUsedAt);
}

/** What was left by killed processes: the key, and the path. */
export async function listRests(paths: WarmPaths): Promise<readonly { readonly key: string; readonly path: string }[]> {
  return (await namesIn(paths.warm)).flatMap((name) => {
    const key = STAGING.exec(name)?.[1];
    return key === undefined ? [] : [{ key, path: join(paths.warm, name) }];
  });
}

async function lookAt(paths: WarmPaths, key: string): Promise<FrozenVm | null> {
  const folder = paths.frozen(key);
  const facts = await stat(folder).catch(() => null);
  if (facts === null) return null;
  return {
    key,
    folder,
    manifest: await readManifest(folder),
    bytes: await diskUsage(folder),
    lastUsedAt: facts.mtimeMs,
  };
}

/** An empty folder to freeze into. The caller holds the key's lock until the end. */
export async function beginFrozen(paths: WarmPaths, key: string): Promise<string> {
  const staging = paths.frozenStaging(key);
  await rm(staging, { recursive: true, force: true });
  await makeDirectory(staging);
  return staging;
}

/** Makes what is in the staging folder complete and lasting, and shows it to others; gives its folder. */
export async function publishFrozen(paths: WarmPaths, description: Description): Promise<string> {
  const { key } = description;
  const staging = paths.frozenStaging(key);
  await syncFiles(staging);
  await writeManifest(staging, description);
  // One that is there is damaged, or nobody would have frozen this one.
  await removeFrozen(paths, key);
  const folder = paths.frozen(key);
  await rename(staging, folder);
  return folder;
}

/** Removes one. The caller holds its lock, and knows that no VM stands on it. */
export async function removeFrozen(paths: WarmPaths, key: string): Promise<void> {
  const doomed = join(paths.warm, `.${key}.removing`);
  await rm(doomed, { recursive: true, force: true });
  if (!(await exists(paths.frozen(key)))) return;
  await rename(paths.frozen(key), doomed);
  await rm(doomed, { recursive: true, force: true });
}

/** Notes that a VM was started from it just now. */
export async function noteUse(folder: string): Promise<void> {
  const now = new Date();
  await utimes(folder, now, now);
}

/** The complete or incomplete frozen VM whose disk this file is; null where it is none. */
export async function findByDisk(
  paths: WarmPaths,
  inode: number,
): Promise<{ readonly path: string; readonly complete: boolean } | null> {
  for (const name of await namesIn(paths.warm)) {
    if (!FROZEN_KEY.test(name) && !STAGING.test(name)) continue;
    const path = join(paths.warm, name);
    const disk = await stat(join(path, FROZEN_FILES.disk)).catch(() => null);
    if (disk?.ino === inode) return { path, complete: FROZEN_KEY.test(name) };
  }
  return null;
}
