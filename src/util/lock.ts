/**
 * A lock between processes: a symbolic link to nowhere, whose target names its owner. It is held by a living process
 * only, so a killed owner's lock is taken over, and a living owner's is waited for.
 *
 * A link, because making one is exclusive, puts its whole text there at once, and takes no block of the disk as long as
 * the text is short: what frees space on a full disk takes locks, too.
 *
 * Taking over is the dangerous part: two processes that see the same dead owner must not both win, and neither may
 * remove a lock that a third has taken meanwhile. So the right to replace a lock of a dead owner is itself a lock, the
 * claim, named by that owner's id; its holder looks once more before it renames the claim over the lock. The owner of a
 * claim may die too. An owner's id never comes back, so whatever lies around of the dead when the lock is held is
 * worthless, and its holder removes it.
 */
import { createHash, randomUUID } from 'node:crypto';
import { lstat, readdir, readlink, rename, symlink } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { VmctlError } from '../errors.js';
import {
  errorCode,
  isMissing,
  makeDirectory,
  namesIn,
  readTextIfPresent,
  removeFile,
  stateDirectoryError,
} from './fs.js';
import { identifyProcess } from './process.js';
import { waitFor } from './wait.js';

export interface LockOwner {
  /** Unique for each time a lock is taken. */
  readonly id: string;
  readonly pid: number;
  /** Stands for the time at which the process started; only ever compared for equality with that of other owners. */
  readonly startTime: string;
  /** What the owner is doing, for the one who waits: `vmctl up`. A long one is cut off. */
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
  const release = async (): Promise<void> => {
    const owner = await readOwner(path);
    if (owner?.id === me.id) await removeFile(path);
  };
  try {
    await waitUntilTaken(path, me, options);
    await removeLeftovers(path);
  } catch (error) {
    await release().catch(() => {});
    throw error instanceof VmctlError || errorCode(error) === null ? error : stateDirectoryError('lock', path, error);
  }
  return release;
}

/** Who holds the lock; null when nobody living does. */
export async function lockOwner(path: string): Promise<LockOwner | null> {
  const owner = await readOwner(path);
  return owner !== null && (await isAlive(owner)) ? owner : null;
}

/**
 * The locks in a directory that only dead processes have left something of: the lock itself, or files beside it.
 * Whoever takes such a lock and releases it has removed all that.
 */
export async function deadLocks(directory: string): Promise<readonly string[]> {
  const names = await namesIn(directory);
  const locks = new Set(names.flatMap((name) => /^.+\.lock(?=$|\.)/.exec(name)?.[0] ?? []));
  const dead: string[] = [];
  for (const name of [...locks].toSorted()) {
    const path = join(directory, name);
    if ((await lockOwner(path)) !== null) continue;
    const beside = names.filter((other) => other.startsWith(`${name}.`)).map((other) => other.slice(name.length + 1));
    const waiting = await Promise.all(beside.map(isOfTheLiving));
    if (!waiting.includes(true) && (names.includes(name) || beside.length > 0)) dead.push(path);
  }
  return dead;
}

/** What follows the lock's name is of a living process, or nothing that a lock leaves. */
async function isOfTheLiving(rest: string): Promise<boolean> {
  const pid = TICKET.exec(rest)?.[1];
  return pid === undefined ? !CLAIM.test(rest) : (await identifyProcess(Number(pid))) !== null;
}

async function waitUntilTaken(path: string, me: LockOwner, options: LockOptions): Promise<void> {
  const timeoutMs = options.timeoutMs ?? DEFAULT_TIMEOUT_MS;
  let told = false;
  const look = async (): Promise<true | null> => {
    if (await tryToTake(path, { path, me })) return true;
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

/** One attempt at the lock or at a claim: it is free, or its owner is dead and this process wins the right to replace it. */
async function tryToTake(target: string, bid: { readonly path: string; readonly me: LockOwner }): Promise<boolean> {
  if (await linkExclusively(textOf(bid.me), target)) return true;
  const owner = await readOwner(target);
  if (owner === null || (await isAlive(owner))) return false;
  const claim = `${bid.path}.after-${owner.id}`;
  if (!(await tryToTake(claim, bid))) return false;
  try {
    if ((await readOwner(target))?.id === owner.id) {
      await rename(claim, target);
      return true;
    }
    await removeFile(claim);
    return false;
  } catch (error) {
    await removeFile(claim);
    throw error;
  }
}

const UUID = '[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}';
const OWNER_ID = new RegExp(`^${UUID}$`);
/** What earlier versions left, whose locks were files. */
const TICKET = new RegExp(`^(\\d+)-${UUID}(?:\\.copy)?$`);
const CLAIM = new RegExp(`^after-(?:${UUID}|damaged-\\d+)$`);

/** Removes what killed processes left beside the lock. Only its holder may do that: no claim can win meanwhile. */
async function removeLeftovers(path: string): Promise<void> {
  const directory = dirname(path);
  for (const rest of (await listedOnce(directory)).get(basename(path)) ?? []) {
    if (!(await isOfTheLiving(rest))) await removeFile(`${path}.${rest}`);
  }
}

/** What follows each lock's name in the names of the files beside it. */
type Rests = ReadonlyMap<string, readonly string[]>;

/** Listings that are asked for and not begun: whoever asks meanwhile shares them. */
const listings = new Map<string, Promise<Rests>>();

/** A listing that begins after it was asked for. A thousand locks of one folder do not list it a thousand times. */
function listedOnce(directory: string): Promise<Rests> {
  const waiting = listings.get(directory);
  if (waiting !== undefined) return waiting;
  const listing = setImmediate().then(async () => {
    listings.delete(directory);
    const rests = new Map<string, string[]>();
    for (const name of await readdir(directory)) {
      const [, lock, rest] = /^(.+\.lock)\.(.+)$/.exec(name) ?? [];
      if (lock === undefined || rest === undefined) continue;
      rests.set(lock, [...(rests.get(lock) ?? []), rest]);
    }
    return rests;
  });
  listings.set(directory, listing);
  return listing;
}

async function linkExclusively(text: string, path: string): Promise<boolean> {
  try {
    await symlink(text, path);
    return true;
  } catch (error) {
    if (errorCode(error) === 'EEXIST') return false;
    throw error;
  }
}

/** ext4 keeps a target of up to 59 bytes, XFS and Btrfs longer ones, in the inode or the directory. */
const LONGEST_TEXT = 59;

/** `ID.PID.START.COMMAND`, the id as 22 characters. */
function textOf({ id, pid, startTime, command }: LockOwner): string {
  const bytes = Buffer.from(id.replaceAll('-', ''), 'hex');
  const plain = command.replaceAll(/[^ -~]/g, '?');
  return `${bytes.toString('base64url')}.${pid}.${startTime}.${plain}`.slice(0, LONGEST_TEXT);
}

const TEXT = /^([\w-]{22})\.(\d+)\.([\w-]{10})\.(.*)$/;

function ownerIn(text: string): LockOwner | null {
  const [, id, pid, startTime, command] = TEXT.exec(text) ?? [];
  if (id === undefined || pid === undefined || startTime === undefined || command === undefined) return null;
  const hex = Buffer.from(id, 'base64url').toString('hex');
  const groups = [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)];
  return { id: groups.join('-'), pid: Number(pid), startTime, command };
}

async function readOwner(path: string): Promise<LockOwner | null> {
  try {
    return ownerIn(await readlink(path)) ?? (await damagedOwner(path));
  } catch (error) {
    if (isMissing(error)) return null;
    // EINVAL: it is no link.
    if (errorCode(error) !== 'EINVAL') throw error;
  }
  return readOwnerOfFile(path);
}

/** The owner of a lock that is a file, as those of earlier versions are. */
async function readOwnerOfFile(path: string): Promise<LockOwner | null> {
  const text = await readTextIfPresent(path);
  if (text === null) return null;
  try {
    const { id, pid, startTime, command }: Partial<LockOwner> = JSON.parse(text);
    if (typeof id === 'string' && OWNER_ID.test(id) && typeof pid === 'number' && typeof startTime === 'string') {
      return { id, pid, startTime: digestOf(startTime), command: String(command) };
    }
  } catch {
    // Falls through: other text is nobody's lock.
  }
  return damagedOwner(path);
}

/** The owner of a lock that does not tell whose it is: nobody, under an id that stands for this very one. */
async function damagedOwner(path: string): Promise<LockOwner | null> {
  try {
    return { id: `damaged-${(await lstat(path)).ino}`, pid: 0, startTime: '', command: 'unknown' };
  } catch (error) {
    if (isMissing(error)) return null;
    throw error;
  }
}

async function isAlive(owner: LockOwner): Promise<boolean> {
  const now = await identifyProcess(owner.pid);
  return now !== null && digestOf(now.startTime) === owner.startTime;
}

/** A start time is long on some hosts, and a link's text is short. */
function digestOf(startTime: string): string {
  return createHash('sha256').update(startTime).digest('base64url').slice(0, 10);
}

let self: ReturnType<typeof identifyProcess> | null = null;

async function describeSelf(command: string): Promise<LockOwner> {
  // Who this process is does not change, and asking takes two files for each of many locks.
  self ??= identifyProcess(process.pid);
  const identity = await self;
  if (identity === null) throw new VmctlError('INTERNAL', 'Internal error: this process cannot identify itself');
  return { id: randomUUID(), pid: identity.pid, startTime: digestOf(identity.startTime), command };
}
