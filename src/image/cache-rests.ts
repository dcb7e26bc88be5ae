/** What is left in the image cache of downloads that were killed, and how images and rests are removed. */
import { lstat, readlink, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { diskUsage } from '../util/disk-usage.js';
import { exists, namesIn } from '../util/fs.js';
import { withLock } from '../util/lock.js';
import { identifyProcess } from '../util/process.js';
import {
  type CacheAccess,
  type CachedImage,
  RECORD_SUFFIX,
  downloadLock,
  isRecordName,
  keyOfPartial,
  partialDownload,
  listCachedImages,
  readRecord,
  withUseLock,
} from './cache-index.js';
import { partialFiles, removePartial } from './partial-file.js';

/** Something in the cache that is no complete image. */
export interface CacheRest {
  readonly kind: 'partial download' | 'incomplete image' | 'temporary file' | 'broken name';
  /** Absolute. */
  readonly path: string;
  /** On the disk. */
  readonly bytes: number;
  /** The key of the content that is downloaded to it; null for what is no partial download. */
  readonly key: string | null;
  /** Milliseconds since the epoch. */
  readonly modifiedAt: number;
}

/** Finds the rests, those that a living process works on included. */
export async function findCacheRests(directory: string): Promise<readonly CacheRest[]> {
  const complete = new Set((await listCachedImages(directory)).map(({ path }) => `${path}${RECORD_SUFFIX}`));
  const rests: CacheRest[] = [];
  const names = (await namesIn(directory)).toSorted();
  for (const name of names) {
    const path = join(directory, name);
    const found = complete.has(path) ? null : await restAt(path, name);
    if (found !== null) rests.push(found);
  }
  const keys = new Set(names.flatMap((name) => keyOfPartial(name) ?? []));
  for (const key of keys) rests.push(await partialRest(partialDownload(directory, key), key));
  return rests;
}

async function partialRest(path: string, key: string): Promise<CacheRest> {
  const files = partialFiles(path);
  const bytes = (await Promise.all(files.map(diskUsage))).reduce((sum, own) => sum + own, 0);
  const times = await Promise.all(
    files.map((file) =>
      lstat(file).then(
        ({ mtimeMs }) => mtimeMs,
        () => 0,
      ),
    ),
  );
  return { kind: 'partial download', path, bytes, key, modifiedAt: Math.max(...times) };
}

async function restAt(path: string, name: string): Promise<CacheRest | null> {
  const facts = await lstat(path).catch(() => null);
  if (facts === null || keyOfPartial(name) !== null) return null;
  const rest = async (kind: CacheRest['kind'], target: string, files: readonly string[]): Promise<CacheRest> => {
    const bytes = (await Promise.all(files.map(diskUsage))).reduce((sum, own) => sum + own, 0);
    return { kind, path: target, bytes, key: null, modifiedAt: facts.mtimeMs };
  };
  const writer = /\.(\d+)-[0-9a-f]{8}\.tmp$/.exec(name)?.[1];
  if (writer !== undefined) {
    const dead = (await identifyProcess(Number(writer))) === null;
    return dead ? rest('temporary file', path, [path]) : null;
  }
  if (isRecordName(name)) {
    const record = await readRecord(path);
    if (record === null || `${record.file.name}${RECORD_SUFFIX}` !== name) return null;
    const image = path.slice(0, -RECORD_SUFFIX.length);
    return rest('incomplete image', image, [image, path]);
  }
  // Only links within the cache are names; what else a user keeps here is the user's, and locks are links as well.
  const isName = facts.isSymbolicLink() && !name.startsWith('.') && !(await readlink(path)).includes('/');
  return isName && !(await exists(path)) ? rest('broken name', path, []) : null;
}

/** Removes an image, unless `stillUnused` says no when it is asked under the lock. Gives false then. */
export async function removeImage(
  path: string,
  access: CacheAccess,
  stillUnused: (image: CachedImage) => Promise<boolean>,
): Promise<boolean> {
  const { directory } = access;
  return withUseLock(access, async () => {
    const image = (await listCachedImages(directory)).find((candidate) => candidate.path === path);
    if (image === undefined || !(await stillUnused(image))) return false;
    // The image first: a record without its file is found as a rest, a file without its record never is.
    await rm(path);
    await rm(`${path}${RECORD_SUFFIX}`, { force: true });
    return true;
  });
}

/** Removes a rest, unless it is none any more; gives false then. Throws `LOCK_TIMEOUT` while it is downloaded. */
export async function removeRest(rest: CacheRest, access: CacheAccess): Promise<boolean> {
  const { directory, command } = access;
  const remove = () =>
    withUseLock(access, async () => {
      const now = (await findCacheRests(directory)).find(({ kind, path }) => kind === rest.kind && path === rest.path);
      if (now === undefined) return false;
      if (rest.key === null) await rm(rest.path, { force: true });
      else await removePartial(rest.path);
      if (rest.kind === 'incomplete image') await rm(`${rest.path}${RECORD_SUFFIX}`, { force: true });
      return true;
    });
  return rest.key === null ? remove() : withLock(downloadLock(directory, rest.key), { command, timeoutMs: 0 }, remove);
}
