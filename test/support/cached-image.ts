/** Puts an image into a cache as a download leaves it. */
import { createHash } from 'node:crypto';
import { chmod, mkdir, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { addressOf, cachedFileName } from '../../src/image/source.js';

export interface CachedImageOptions {
  /** Default: an empty raw disk of 64 KiB. */
  readonly content?: Uint8Array;
  /** Days since it was last used; default 0. */
  readonly unusedDays?: number;
  /** The list of checksums that it was held against; default none. */
  readonly checksumUrl?: string;
}

/** Gives the absolute path of the image. */
export async function putImage(directory: string, url: string, options: CachedImageOptions = {}): Promise<string> {
  const { content = new Uint8Array(65_536), unusedDays = 0, checksumUrl = null } = options;
  const sha256 = createHash('sha256').update(content).digest('hex');
  const address = addressOf(url);
  const name = cachedFileName(address.name, sha256);
  const path = join(directory, name);
  await mkdir(directory, { recursive: true });
  await writeFile(path, content);
  const usedAt = new Date(Date.now() - unusedDays * 86_400_000);
  const origin = {
    key: address.key,
    url: address.shown,
    sha256,
    sha512: null,
    bytes: content.length,
    compression: null,
    etag: null,
    lastModified: null,
    fetchedAt: usedAt.toISOString(),
    checksumUrl,
    manifest: null,
  };
  const file = { name, sha256, bytes: content.length };
  const record = { schemaVersion: 1, file, damagedAt: null, origins: [origin] };
  await writeFile(`${path}.json`, JSON.stringify(record));
  await utimes(`${path}.json`, usedAt, usedAt);
  return path;
}

/** Changes an image behind the cache's back, as a failing disk does. */
export async function spoilImage(path: string, content: Uint8Array): Promise<void> {
  await chmod(path, 0o644);
  await writeFile(path, content);
  await chmod(path, 0o444);
}
