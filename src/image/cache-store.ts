/** How images come into the cache: a file that was downloaded, and places that lead to a content that is there. */
import { chmod, open, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { stateDirectoryError } from '../util/fs.js';
import {
  type CacheAccess,
  type CachedImage,
  type ImageRecord,
  type Origin,
  listCachedImages,
  withUseLock,
  writeRecord,
} from './cache-index.js';
import { cachedFileName } from './source.js';

const IMAGE_MODE = 0o444;
const DIGEST_DIGITS = 64;

export interface Arrival {
  /** Absolute path of the file that becomes the image, in the cache's directory; gone afterwards. */
  readonly path: string;
  readonly sha256: string;
  readonly bytes: number;
  /** What the image's file is called, before the digest is added. */
  readonly name: string;
  readonly origin: Origin;
}

/**
 * Takes a downloaded file in and gives its absolute path there. A content that is there already stays the file that it
 * is, because disks of VMs may stand on it.
 */
export async function storeImage(arrival: Arrival, access: CacheAccess): Promise<string> {
  return withUseLock(access, async () => {
    const images = await listCachedImages(access.directory);
    const same = images.find(({ record }) => record.file.sha256 === arrival.sha256);
    if (same !== undefined && same.record.damagedAt === null) {
      await rm(arrival.path, { force: true });
      await writeRecord(same.path, withOrigin(same.record, arrival.origin));
      return same.path;
    }
    // Two contents whose digests begin alike are told apart by all of it.
    const short = cachedFileName(arrival.name, arrival.sha256);
    const isTaken = images.some(({ record }) => record.file.name === short);
    const name = isTaken ? cachedFileName(arrival.name, arrival.sha256, DIGEST_DIGITS) : short;
    const path = same?.path ?? join(access.directory, name);
    const file = { name, sha256: arrival.sha256, bytes: arrival.bytes };
    const fresh = { schemaVersion: 1 as const, file, damagedAt: null, origins: [arrival.origin] };
    const record = same === undefined ? fresh : withOrigin({ ...same.record, damagedAt: null }, arrival.origin);
    // Record first, then the file: a record whose file is missing counts for nothing, and a file that is there is complete.
    await writeRecord(path, record);
    try {
      await chmod(arrival.path, IMAGE_MODE);
      await rename(arrival.path, path);
      await syncDirectory(access.directory);
    } catch (error) {
      throw stateDirectoryError('write', path, error);
    }
    return path;
  });
}

/** Notes another place that leads to an image, which counts as used now. The use lock is held. */
export async function addOrigin({ path, record }: CachedImage, origin: Origin): Promise<void> {
  await writeRecord(path, withOrigin(record, origin));
}

/** Notes that an image is not what its digest says; the next one who wants it gets it anew. */
export async function markDamaged(path: string, access: CacheAccess): Promise<void> {
  await withUseLock(access, async () => {
    const image = (await listCachedImages(access.directory)).find((candidate) => candidate.path === path);
    if (image !== undefined) await writeRecord(path, { ...image.record, damagedAt: new Date().toISOString() });
  });
}

function withOrigin(record: ImageRecord, origin: Origin): ImageRecord {
  return { ...record, origins: [...record.origins.filter(({ key }) => key !== origin.key), origin] };
}

/** Makes a rename last through a power cut. */
async function syncDirectory(path: string): Promise<void> {
  const directory = await open(path, 'r');
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}
