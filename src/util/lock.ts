/**
 * A lock between processes: a file that names its owner. It is held by a living process only, so a killed owner's
 * lock is taken over, and a living owner's is waited for.
 *
 * Taking over is the dangerous part: two processes that see the same dead owner must not both win, and neither may
 * remove a lock that a third has taken meanwhile. So the right to take over is itself an exclusive file, named by the
 * dead owner's id, and its holder looks once more before it acts. That file is a lock like any other: its owner may
 * die too.
 */
import { randomUUID } from 'node:crypto';
import { link, rename, rm, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { VmctlError } from '../errors.js';
import { PRIVATE_FILE_MODE } from '../paths.js';
import { errorCode, makeDirectory, readTextIfPresent } from './fs.js';
import { type ProcessIdentity, identifyProcess, isSameProcess } from './process.js';
import { waitFor } from './wait.js';

export interface LockOwner extends ProcessIdentity {
  /** Unique for each time a lock is taken. */
  readonly id: string;
  /** What the owner is doing, for the one who waits: `vmctl up`. */
  readonly command: string;
}

export interface LockOptions {
  /** What this process is doing, for others who wait. */
  readonly command: string;
  /** Milliseconds; default 10 minutes. A waiting process gives up with `LOCK_TIMEOUT` then. */
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
  /** Called once, when the lock is held by another living process. */
  readonly onWait?: (owner: LockOwner) => void;
}

const DEFAULT_TIMEOUT_MS = 600_000;

/** Runs `work` while holding the lock; releases it however `work` ends. */
export async function withLock<T>(path: string, options: LockOptions, work: () => Promise<T>): Promise<T> {
  const release = await acquireLock(path, options);
  try {
    return await work();
  } finally {
    await release();
  }
}

/** Takes the lock, waiting while a living process has it; gives the function that releases it. */
export async function acquireLock(path: string, options: LockOptions): Promise<() => Promise<void>> {
  await makeDirectory(dirname(path));
  const me = await describeSelf(options.command);
  const ticket = `${path}.${me.id}`;
  await writeFile(ticket, JSON.stringify(me), { mode: PRIVATE_FILE_MODE, flag: 'wx' });
  try {
    await waitUntilTaken(path, ticket, options);
  } finally {
    await rm(ticket, { force: true });
  }
  return async () => {
    const owner = await readOwner(path);
    if (owner?.id === me.id) await rm(path, { force: true });
  };
}

/** Who holds the lock; null when nobody living does. */
export async function lockOwner(path: string): Promise<LockOwner | null> {
  const owner = await readOwner(path);
  return owner !== null && (await isSameProcess(owner)) ? owner : null;
}

async function waitUntilTaken(path: string, ticket: string, options: LockOptions): Promise<void> {
  const timeoutMs = options.timeoutMs ?? DEFAULT_TIMEOUT_MS;
  let told = false;
  const look = async (): Promise<true | null> => {
    if (await tryToTake(path, ticket)) return true;
    const owner = await lockOwner(path);
    if (owner !== null && !told) {
      told = true;
      options.onWait?.(owner);
    }
    return null;
  };
  const taken = await waitFor(look, { timeoutMs, ...(options.signal ? { signal: options.signal } : {}) });
  if (taken === null) {
    const owner = await readOwner(path);
    const holder = owner === null ? 'another process' : `"${owner.command}" (pid ${owner.pid})`;
    throw new VmctlError('LOCK_TIMEOUT', `${holder} has held ${path} for more than ${timeoutMs / 1000} s`, {
      hint: 'Wait for it to finish, or end it, and try again.',
      fields: { path, pid: owner?.pid ?? null },
    });
  }
}

/** One attempt: the lock is free, or its owner is dead and this process wins the right to take over. */
async function tryToTake(path: string, ticket: string): Promise<boolean> {
  if (await linkExclusively(ticket, path)) return true;
  const owner = await readOwner(path);
  if (owner === null || (await isSameProcess(owner))) return false;
  const claim = `${path}.after-${owner.id}`;
  if (!(await tryToTake(claim, ticket))) return false;
  try {
    if ((await readOwner(path))?.id !== owner.id) return false;
    // A hard link renamed over another link of the same file would do nothing (rename(2)), so a copy goes there.
    const copy = `${ticket}.copy`;
    await writeFile(copy, (await readTextIfPresent(ticket)) ?? '', { mode: PRIVATE_FILE_MODE });
    await rename(copy, path);
    return true;
  } finally {
    await rm(claim, { force: true });
  }
}

async function linkExclusively(from: string, to: string): Promise<boolean> {
  try {
    await link(from, to);
    return true;
  } catch (error) {
    if (errorCode(error) === 'EEXIST') return false;
    throw error;
  }
}

async function readOwner(path: string): Promise<LockOwner | null> {
  const text = await readTextIfPresent(path);
  if (text === null) return null;
  try {
    const { id, pid, startTime, command }: Partial<LockOwner> = JSON.parse(text);
    if (typeof id === 'string' && typeof pid === 'number' && typeof startTime === 'string') {
      return { id, pid, startTime, command: String(command) };
    }
  } catch {
    // Falls through: a lock file is linked into place whole, so other text is nobody's lock.
  }
  return { id: 'damaged', pid: 0, startTime: '', command: 'unknown' };
}

async function describeSelf(command: string): Promise<LockOwner> {
  const identity = await identifyProcess(process.pid);
  if (identity === null) throw new VmctlError('INTERNAL', 'Internal error: this process cannot identify itself');
  return { ...identity, id: randomUUID(), command };
}
