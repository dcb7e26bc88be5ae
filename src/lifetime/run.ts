/**
 * A run: VMs that belong to one process, in a state directory of their own below `runs/`, and how they end with it.
 *
 * The watchdog is started before the directory is made, so there is no moment at which something exists that nobody
 * would remove. Where the watchdog is killed as well, the lease tells everybody that the owner is gone, and the next run,
 * or `vmctl gc`, does its work.
 */
import { randomBytes } from 'node:crypto';
import { readdir, symlink } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { VmctlError } from '../errors.js';
import { type StatePaths, runPaths, statePaths } from '../paths.js';
import type { Watcher } from '../util/exec.js';
import { isMissing, makeDirectory } from '../util/fs.js';
import { acquireLock, withLock } from '../util/lock.js';
import { identifyProcess } from '../util/process.js';
import { type Lease, type RunState, readLease, stateOf, writeLease } from './lease.js';
import { reapRun } from './reap.js';
import { startWatchdog } from './watchdog.js';

export interface RunOptions {
  /** What this process is doing, for `vmctl list --all`. */
  readonly command: string;
  readonly project: string | null;
  /** True: the VMs stay when this process ends, however far it has come. */
  readonly keep: boolean;
}

/** A run of this process. */
export interface OwnedRun {
  readonly id: string;
  readonly paths: StatePaths;
  /** True where VMs of an earlier run are there already. */
  readonly found: boolean;
  /** Called when all VMs are up: what is to stay is handed over. */
  settle(): Promise<void>;
  /** Lets go: ends the VMs and removes everything, unless they are to stay. */
  end(): Promise<void>;
}

/** Makes a run of its own for this process. */
export async function beginRun(base: StatePaths, options: RunOptions): Promise<OwnedRun> {
  const id = randomBytes(4).toString('hex');
  const paths = { ...runPaths(base, id), durable: options.keep };
  const watchdog = options.keep ? null : await startWatchdog(base, id);
  try {
    await makeRun(base, paths, { ...(await newLease(base, options)), bound: options.keep ? 'kept' : 'owner' });
  } catch (error) {
    await watchdog?.dismiss();
    throw error;
  }
  return {
    id,
    paths,
    found: false,
    // Until then a signal could end the watchdog as well.
    settle: async () => watchdog?.whenReady(),
    end: async () => {
      if (!options.keep) await reapRun(paths);
      await watchdog?.dismiss();
    },
  };
}

/**
 * Takes over the VMs that an earlier run has left warm, or makes them; null while another living process works with
 * them. VMs that were made from something else are removed first.
 */
export async function beginWarmRun(
  base: StatePaths,
  options: RunOptions & { readonly slot: string; readonly digest: string },
): Promise<OwnedRun | null> {
  const { slot, digest, command } = options;
  const release = await tryLock(base.warmLock(slot), command);
  if (release === null) return null;
  const id = `warm-${slot}`;
  const paths = runPaths(base, id);
  let watchdog: Watcher | null = null;
  try {
    const earlier = await readLease(paths.root);
    const found = earlier?.bound === 'warm' && earlier.digest === digest;
    const lease = { ...(await newLease(base, options)), digest };
    if (found) await writeLease(paths, { ...lease, bound: 'warm', createdAt: earlier.createdAt });
    else {
      await reapRun(paths);
      // Until all VMs are up they are not worth keeping, and end with this process.
      watchdog = await startWatchdog(base, id);
      await makeRun(base, paths, { ...lease, bound: 'owner' });
    }
    let settled = found;
    return {
      id,
      paths,
      found,
      settle: async () => {
        settled = true;
        await writeLease(paths, { ...lease, bound: 'warm' });
        await watchdog?.dismiss();
      },
      end: async () => {
        if (settled) await writeLease(paths, { ...lease, bound: 'warm', owner: null });
        else await reapRun(paths);
        await watchdog?.dismiss();
        await release();
      },
    };
  } catch (error) {
    await watchdog?.dismiss();
    await release();
    throw error;
  }
}

async function tryLock(path: string, command: string): Promise<(() => Promise<void>) | null> {
  try {
    return await acquireLock(path, { command, timeoutMs: 0 });
  } catch (error) {
    if (error instanceof VmctlError && error.code === 'LOCK_TIMEOUT') return null;
    throw error;
  }
}

async function newLease(base: StatePaths, { command, project }: RunOptions): Promise<Omit<Lease, 'bound'>> {
  const self = await identifyProcess(process.pid);
  if (self === null) throw new VmctlError('INTERNAL', 'Internal error: this process cannot identify itself');
  const createdAt = new Date().toISOString();
  return { schemaVersion: 1, owner: { ...self, command }, project, digest: null, base: base.root, createdAt };
}

/** Under the lock: who finds a directory without a lease while he holds it knows that nobody is making it. */
async function makeRun(base: StatePaths, paths: StatePaths, lease: Lease): Promise<void> {
  await makeDirectory(base.images);
  await makeDirectory(base.warm);
  await withLock(base.runsLock, { command: lease.owner?.command ?? 'vmctl' }, async () => {
    await makeDirectory(paths.root);
    // With it the directory is one that every command can work in.
    await symlink(relative(paths.root, base.images), join(paths.root, 'images'));
    await symlink(relative(paths.root, base.warm), join(paths.root, 'warm'));
    await writeLease(paths, lease);
  });
}

/** A run that there is. */
export interface FoundRun {
  readonly id: string;
  readonly paths: StatePaths;
  /** Null where it was given up before it had one. */
  readonly lease: Lease | null;
  readonly state: RunState;
}

/** All runs below a state directory, by id. A link that lies there is none: what it leads to is not ours to remove. */
export async function listRuns(base: StatePaths): Promise<readonly FoundRun[]> {
  const found: FoundRun[] = [];
  for (const id of (await foldersIn(base.runs)).toSorted()) {
    const lease = await readLease(base.run(id));
    found.push({ id, paths: runPaths(base, id), lease, state: await stateOf(lease) });
  }
  return found;
}

/** Removes a run unless it is alive after all; gives whether it is gone. */
export async function removeRun(base: StatePaths, run: FoundRun, command: string): Promise<boolean> {
  // A directory that is just being made has no lease yet; behind its maker's lock it has.
  const state = await withLock(base.runsLock, { command }, async () => stateOf(await readLease(run.paths.root)));
  if (state === 'live') return false;
  await reapRun(run.paths);
  return true;
}

/** Removes what runs of killed processes have left. Never fails: it is not what the user asked for. */
export async function sweepRuns(base: StatePaths, command: string): Promise<void> {
  const dead = (await listRuns(base).catch(() => [])).filter(({ state }) => state === 'dead');
  await Promise.all(dead.map((run) => removeRun(base, run, command).catch(() => false)));
}

/** The state directory that a run belongs to; itself where it is none of a run. */
export async function baseOf(paths: StatePaths): Promise<StatePaths> {
  const lease = await readLease(paths.root);
  return lease === null ? paths : statePaths(lease.base);
}

async function foldersIn(path: string): Promise<readonly string[]> {
  try {
    const entries = await readdir(path, { withFileTypes: true });
    return entries.filter((entry) => entry.isDirectory()).map(({ name }) => name);
  } catch (error) {
    if (isMissing(error)) return [];
    throw error;
  }
}
