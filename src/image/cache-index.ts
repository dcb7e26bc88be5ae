/**
 * What the image cache holds: `images/FILE` with `images/FILE.json` beside it, which says what its content is and where
 * that came from. A content is there once, however many URLs lead to it. A file without such a record is no image of
 * ours, and a record without its file is nothing. A file here never changes: other content gets another name.
 *
 * The time at which a record was modified is the time of the last use of its image. Using, adding and removing are kept
 * apart by one lock: an image that was found and noted under it is not removed as unused.
 *
 * A symbolic link `images/NAME` to an image is a name that somebody gave it.
 */
import { randomBytes } from 'node:crypto';
import { lstat, readlink, realpath, rename, rm, stat, symlink, utimes } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import * as v from 'valibot';
import { VmctlError } from '../errors.js';
import {
  exists,
  isMissing,
  makeDirectory,
  namesIn,
  readTextIfPresent,
  stateDirectoryError,
  writeFileAtomically,
} from '../util/fs.js';
import { withLock } from '../util/lock.js';

const Origin = v.object({
  /** Of the whole address, SHA-256. */
  key: v.string(),
  /** Without user, password and query. */
  url: v.string(),
  /** Digests and length of the bytes as they were downloaded. */
  sha256: v.string(),
  sha512: v.nullable(v.string()),
  bytes: v.number(),
  compression: v.nullable(v.picklist(['gzip', 'zstd', 'xz', 'bzip2'])),
  etag: v.nullable(v.string()),
  lastModified: v.nullable(v.string()),
  /** ISO 8601. */
  fetchedAt: v.string(),
  /** The list of checksums that promised these bytes. */
  checksumUrl: v.nullable(v.string()),
  /** The digest of the manifest that a registry's tag stood for: `sha256:…`. */
  manifest: v.nullable(v.string()),
});

/** Where an image came from, and as what. */
export type Origin = v.InferOutput<typeof Origin>;

const ImageRecord = v.object({
  schemaVersion: v.literal(1),
  /** The image itself, decompressed. */
  file: v.object({ name: v.string(), sha256: v.string(), bytes: v.number() }),
  /** ISO 8601; when its content was found to be another than its digest says. Nobody is given such an image. */
  damagedAt: v.nullable(v.string()),
  /** The last one is the newest; never empty. */
  origins: v.pipe(v.array(Origin), v.minLength(1)),
});

/** What is known of a downloaded image. */
export type ImageRecord = v.InferOutput<typeof ImageRecord>;

/** The newest place that an image came from, of those with this key if one is given. */
export function originOf({ origins }: ImageRecord, key: string | null = null): Origin | undefined {
  return origins.findLast((origin) => key === null || origin.key === key);
}

/** An image in the cache that is complete. */
export interface CachedImage {
  /** Absolute. */
  readonly path: string;
  readonly record: ImageRecord;
  /** Milliseconds since the epoch. */
  readonly lastUsedAt: number;
  /** What it takes of the disk, in bytes. */
  readonly diskBytes: number;
  /** Given by `image pull --name`, in order. */
  readonly names: readonly string[];
}

/** What is added to an image's file name for its record. */
export const RECORD_SUFFIX = '.json';

/** Held while the content with that key is downloaded. */
export function downloadLock(directory: string, key: string): string {
  return join(directory, `.${key}.lock`);
}

/** Where a download of the content with that key is kept until it is complete. */
export function partialDownload(directory: string, key: string): string {
  return join(directory, `.${key}.part`);
}

/** The key of the content that a file of a partial download belongs to; null for another file. */
export function keyOfPartial(name: string): string | null {
  return /^\.([0-9a-f]{64})\.part(?:\.json|\.image)?$/.exec(name)?.[1] ?? null;
}

export interface CacheAccess {
  /** Absolute path of the cache. */
  readonly directory: string;
  /** What this process is doing, for another one that waits: `vmctl up`. */
  readonly command: string;
  readonly signal?: AbortSignal;
}

/** Runs `work` while nobody else notes a use, gives a name or removes an image. Always short; never take another lock inside. */
export function withUseLock<T>({ directory, command, signal }: CacheAccess, work: () => Promise<T>): Promise<T> {
  const lock = join(directory, '.use.lock');
  return withLock(lock, { command, ...(signal === undefined ? {} : { signal }) }, work);
}

/** Notes that an image of the cache is used now. The use lock is held. */
export async function noteUse(path: string): Promise<void> {
  const now = new Date();
  const record = `${path}${RECORD_SUFFIX}`;
  try {
    await utimes(record, now, now);
  } catch (error) {
    throw stateDirectoryError('write', record, error);
  }
}

/** Notes the use of a local image, if it is one of the cache. Does nothing for any other file. */
export async function noteLocalUse(path: string, access: CacheAccess): Promise<void> {
  const [real, directory] = await Promise.all([realPath(path), realPath(access.directory)]);
  if (real === null || directory === null || dirname(real) !== directory) return;
  await withUseLock(access, async () => {
    if (await exists(`${real}${RECORD_SUFFIX}`)) await noteUse(real);
  });
}

/** Every complete image in the cache, by file name; records that cannot be read are left out. */
export async function listCachedImages(directory: string): Promise<readonly CachedImage[]> {
  const images: CachedImage[] = [];
  const files = (await namesIn(directory)).toSorted();
  const names = await namesOf(directory, files);
  for (const name of files) {
    if (!isRecordName(name)) continue;
    const record = await readRecord(join(directory, name));
    if (record === null || `${record.file.name}${RECORD_SUFFIX}` !== name) continue;
    const path = join(directory, record.file.name);
    if ((await fileBytes(path)) !== record.file.bytes) continue;
    const [file, { mtimeMs }] = await Promise.all([stat(path), stat(join(directory, name))]);
    const given = names.filter(({ file: target }) => target === record.file.name).map((link) => link.name);
    images.push({ path, record, lastUsedAt: mtimeMs, diskBytes: file.blocks * 512, names: given });
  }
  return images;
}

/** True for what would be the record of an image. */
export function isRecordName(name: string): boolean {
  return !name.startsWith('.') && name.endsWith(RECORD_SUFFIX);
}

const IMAGE_NAME = /^[a-zA-Z0-9][a-zA-Z0-9._-]{0,62}$/;

/** Throws `USAGE` for what cannot be the name of an image. */
export function checkImageName(name: string): void {
  if (IMAGE_NAME.test(name) && !/\.(?:json|tmp|lock|part)$/.test(name)) return;
  throw new VmctlError('USAGE', `${JSON.stringify(name)} cannot be the name of an image`, {
    hint: 'A name has 1 to 63 of the characters a-z A-Z 0-9 . _ -, begins with a letter or digit, and does not end in .json, .lock, .part or .tmp.',
    fields: { name },
  });
}

/**
 * Gives an image of the cache a name, which is then a link to it; another image that had the name loses it. Gives the
 * link's absolute path. Throws `USAGE` for a name that cannot be, `IMAGE_NOT_FOUND` for an image that is gone.
 */
export async function nameImage(name: string, path: string, access: CacheAccess): Promise<string> {
  checkImageName(name);
  const link = join(access.directory, name);
  await makeDirectory(access.directory);
  await withUseLock(access, async () => {
    const taken = await lstat(link).catch(() => null);
    if (taken !== null && !taken.isSymbolicLink()) {
      throw new VmctlError('USAGE', `the name ${JSON.stringify(name)} is that of a file in the cache`, {
        hint: 'Choose another name.',
        fields: { name, path: link },
      });
    }
    if ((await fileBytes(path)) === null) {
      throw new VmctlError('IMAGE_NOT_FOUND', `the image ${path} was removed meanwhile`, { hint: 'Try again.' });
    }
    const temporary = `${link}.${process.pid}-${randomBytes(4).toString('hex')}.tmp`;
    await symlink(basename(path), temporary);
    await rename(temporary, link).catch(async (error: unknown) => {
      await rm(temporary, { force: true });
      throw error;
    });
  });
  return link;
}

/** The length of a regular file; null for anything else. */
export async function fileBytes(path: string): Promise<number | null> {
  try {
    const facts = await stat(path);
    return facts.isFile() ? facts.size : null;
  } catch (error) {
    if (isMissing(error)) return null;
    throw error;
  }
}

/** Records what is known of an image, which counts as used now. */
export function writeRecord(path: string, record: ImageRecord): Promise<void> {
  return writeFileAtomically(`${path}${RECORD_SUFFIX}`, `${JSON.stringify(record, null, 2)}\n`);
}

/** What is recorded of an image; null where that is missing or cannot be read. */
export async function readRecord(path: string): Promise<ImageRecord | null> {
  const text = await readTextIfPresent(path);
  const parsed = v.safeParse(v.pipe(v.string(), v.parseJson(), ImageRecord), text);
  return parsed.success ? parsed.output : null;
}

interface Name {
  readonly name: string;
  /** The file that it leads to. */
  readonly file: string;
}

async function namesOf(directory: string, files: readonly string[]): Promise<readonly Name[]> {
  const names: Name[] = [];
  for (const name of files) {
    if (!IMAGE_NAME.test(name)) continue;
    // EINVAL: it is no link.
    const file = await readlink(join(directory, name)).catch(() => null);
    if (file !== null) names.push({ name, file });
  }
  return names;
}

async function realPath(path: string): Promise<string | null> {
  try {
    return await realpath(path);
  } catch (error) {
    if (isMissing(error)) return null;
    throw error;
  }
}
