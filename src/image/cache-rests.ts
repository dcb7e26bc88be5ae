/** What is left in the image cache of downloads that were killed, and how images and rests are removed. */
import { lstat, readlink, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { diskUsage } from '../util/disk-usage.js';
import { exists } from '../util/fs.js';
import { withLock } from '../util/lock.js';
import { identifyProcess } from '../util/process.js';
import {
  type CacheAccess,
  type CachedImage,
  RECORD_SUFFIX,
  cacheFiles,
  downloadLock,
  isRecordName,
  keyOfRest,
  listCachedImages,
  readRecord,
  withUseLock,
} from './cache-index.js';

/** Something in the cache that is no complete image. */
export interface CacheRest {
  readonly kind: 'partial download' | 'incomplete image' | 'temporary file' | 'broken name';
  /** Absolute. */
  readonly path: string;
  /** On the disk. */
  readonly bytes: number;
  /** The key of the URL that it came from; null where it has none. */
  readonly key: string | null;
}

/**
 * Finds the rests, those that a living process works on included. A download is never continued from what is there
 * (`cache.ts` begins anew), so a partial one that nobody works on is worth nothing.
 */
export async function findCacheRests(directory: string): Promise<readonly CacheRest[]> {
  const complete = new Set((await listCachedImages(directory)).map(({ path }) => `${path}${RECORD_SUFFIX}`));
  const rests: CacheRest[] = [];
  for (const name of (await cacheFiles(directory)).toSorted()) {
    const path = join(directory, name);
    const found = complete.has(path) ? null : await restAt(path, name);
    if (found !== null) rests.push(found);
  }
  return rests;
}

async function restAt(path: string, name: string): Promise<CacheRest | null> {
  const key = keyOfRest(name);
  if (key !== null) return { kind: 'partial download', path, bytes: await diskUsage(path), key };
  const writer = /\.(\d+)-[0-9a-f]{8}\.tmp$/.exec(name)?.[1];
  if (writer !== undefined) {
    const dead = (await identifyProcess(Number(writer))) === null;
    return dead ? { kind: 'temporary file', path, bytes: await diskUsage(path), key: null } : null;
  }
  if (isRecordName(name)) {
    const record = await readRecord(path);
    if (record === null || `${record.file.name}${RECORD_SUFFIX}` !== name) return null;
    const image = path.slice(0, -RECORD_SUFFIX.length);
    const bytes = (await diskUsage(image)) + (await diskUsage(path));
    return { kind: 'incomplete image', path: image, bytes, key: record.key };
  }
  const facts = await lstat(path).catch(() => null);
  // Only links within the cache are names; what else a user keeps here is the user's.
  const isName = facts?.isSymbolicLink() === true && !(await readlink(path)).includes('/');
  return isName && !(await exists(path)) ? { kind: 'broken name', path, bytes: 0, key: null } : null;
}

/**
 * Removes an image and its names, unless `stillUnused` says no when it is asked under the locks. Gives false then.
 * Throws `LOCK_TIMEOUT` while something is downloaded from the image's URL.
 */
export async function removeImage(
  path: string,
  access: CacheAccess,
  stillUnused: (image: CachedImage) => Promise<boolean>,
): Promise<boolean> {
  const { directory, command } = access;
  const known = (await listCachedImages(directory)).find((image) => image.path === path);
  if (known === undefined) return false;
  return withLock(downloadLock(directory, known.record.key), { command, timeoutMs: 0 }, () =>
    withUseLock(access, async () => {
      const image = (await listCachedImages(directory)).find((candidate) => candidate.path === path);
      if (image === undefined || !(await stillUnused(image))) return false;
      // The image first: a record without its file is found as a rest, a file without its record never is.
      await rm(path);
      await rm(`${path}${RECORD_SUFFIX}`, { force: true });
      return true;
    }),
  );
}

/** Removes a rest, unless it is none any more; gives false then. Throws `LOCK_TIMEOUT` while its URL is downloaded. */
export async function removeRest(rest: CacheRest, access: CacheAccess): Promise<boolean> {
  const { directory, command } = access;
  const remove = () =>
    withUseLock(access, async () => {
      const now = (await findCacheRests(directory)).find(({ kind, path }) => kind === rest.kind && path === rest.path);
      if (now === undefined) return false;
      await rm(rest.path, { force: true });
      if (rest.kind === 'incomplete image') await rm(`${rest.path}${RECORD_SUFFIX}`, { force: true });
      return true;
    });
  return rest.key === null ? remove() : withLock(downloadLock(directory, rest.key), { command, timeoutMs: 0 }, remove);
}
