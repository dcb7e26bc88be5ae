/**
 * Gets images from URLs into the cache: `cache-index.ts` says what is kept there. An image is found by its URL and,
 * where one is given, by the checksum of the bytes as they were downloaded.
 */
import { chmod, open, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Dispatcher } from 'undici';
import { VmctlError } from '../errors.js';
import type { StageContext } from '../model/event.js';
import type { Checksum, ChecksumSource } from '../model/spec.js';
import { makeDirectory, writeFileAtomically } from '../util/fs.js';
import { withLock } from '../util/lock.js';
import {
  type ImageRecord,
  RECORD_SUFFIX,
  downloadLock,
  fileBytes,
  listCachedImages,
  noteUse,
  partialDownload,
  withUseLock,
} from './cache-index.js';
import { type Downloaded, download } from './download.js';
import { type Environment, environmentDispatcher } from './http.js';
import { inspectImage } from './qemu-img.js';
import { SharedWork } from './shared-work.js';
import { cachedFileName, imageName, parseImageUrl, shownUrl, urlKey } from './source.js';

export interface RemoteImage {
  readonly url: string;
  readonly checksum: ChecksumSource | null;
}

export interface FetchOptions extends StageContext {
  /** Absolute path of the cache. */
  readonly directory: string;
  /** What this process is doing, for another one that waits: `vmctl up`. */
  readonly command: string;
  /** Where proxies are named; default the process's own. */
  readonly environment?: Environment;
  /** Default: one that goes through the environment's proxies. */
  readonly dispatcher?: Dispatcher;
  /** Milliseconds without a byte that count as a failure; default 30 s. */
  readonly stallMs?: number;
  /** Milliseconds before the second attempt, the third, and so on; default 1 s and 4 s. */
  readonly retryDelaysMs?: readonly number[];
  /** Waits for a place among the downloads of this process, and gives the function that leaves it; default none. */
  readonly takePlace?: (signal: AbortSignal) => Promise<() => void>;
  /** Who else in this process wants the same; default everybody. */
  readonly shared?: SharedWork<string>;
}

const DEFAULT_STALL_MS = 30_000;
const DEFAULT_RETRY_DELAYS_MS = [1000, 4000];
const IMAGE_MODE = 0o444;

const everybody = new SharedWork<string>();

/**
 * The absolute path of the image, which is downloaded first if it is not in the cache: once, however many ask in this
 * process and in others. Throws `IMAGE_NOT_FOUND`, `IMAGE_DOWNLOAD`, `IMAGE_CHECKSUM`, `IMAGE_INVALID` for what is no
 * disk image, `HOST_UNSUPPORTED`, `STATE_DIRECTORY`, `UNSUPPORTED` for another scheme, and `ABORTED`.
 */
export async function fetchImage(source: RemoteImage, options: FetchOptions): Promise<string> {
  const url = parseImageUrl(source.url);
  const { checksum } = source;
  if (checksum?.algorithm === 'list') {
    throw new VmctlError('UNSUPPORTED', 'a checksum by the URL of a list is not supported yet');
  }
  const { directory, shared = everybody } = options;
  const key = [directory, urlKey(url), checksum?.algorithm, checksum?.digest].join('\n');
  return shared.join(key, options, (context) => fetchOnce({ url, checksum }, { ...options, ...context }));
}

interface ParsedSource {
  readonly url: URL;
  readonly checksum: Checksum | null;
}

async function fetchOnce(source: ParsedSource, options: FetchOptions): Promise<string> {
  const { directory, command, signal, reporter } = options;
  const found = await reuse(source, options);
  if (found !== null) return found;
  await makeDirectory(directory);
  const lock = downloadLock(directory, urlKey(source.url));
  const settings = {
    command,
    signal,
    // A download that goes on is waited for; one that stalls gives up by itself.
    timeoutMs: Number.POSITIVE_INFINITY,
    onWait: (owner: { readonly command: string; readonly pid: number }) => {
      const what = `"${owner.command}" (pid ${owner.pid})`;
      reporter.status(`waiting for ${what}, which downloads ${imageName(source.url)}`);
    },
  };
  return withLock(lock, settings, async () => {
    const meanwhile = await reuse(source, options);
    if (meanwhile !== null) return meanwhile;
    const leave = await options.takePlace?.(signal);
    try {
      return await fetchLocked(source, options);
    } finally {
      leave?.();
    }
  });
}

/** An image that is there, noted as used. Whoever removes unused ones cannot come between finding and noting it. */
async function reuse(source: ParsedSource, options: FetchOptions): Promise<string | null> {
  const { directory } = options;
  if ((await find(directory, source)) === null) return null;
  return withUseLock(options, async () => {
    const found = await find(directory, source);
    if (found !== null) await noteUse(found);
    return found;
  });
}

/** The newest image from this URL; with a checksum only one whose downloaded bytes had it. */
async function find(directory: string, { url, checksum }: ParsedSource): Promise<string | null> {
  const key = urlKey(url);
  const images = (await listCachedImages(directory))
    .filter(({ record }) => record.key === key && (checksum === null || record[checksum.algorithm] === checksum.digest))
    .toSorted((a, b) => (a.record.fetchedAt < b.record.fetchedAt ? 1 : -1));
  return images[0]?.path ?? null;
}

/** Downloads, looks at what came, and only then gives it its name. The lock is held. */
async function fetchLocked({ url, checksum }: ParsedSource, options: FetchOptions): Promise<string> {
  const { directory, stallMs = DEFAULT_STALL_MS, retryDelaysMs = DEFAULT_RETRY_DELAYS_MS } = options;
  const { signal, reporter } = options;
  const path = partialDownload(directory, urlKey(url));
  const dispatcher = options.dispatcher ?? environmentDispatcher(options.environment ?? process.env, stallMs);
  try {
    // What a killed process has left there.
    await rm(path, { force: true });
    const result = await download(url, { dispatcher, signal, reporter, checksum, path, stallMs, retryDelaysMs });
    await checkImage(url, path, signal);
    return await keep(url, { part: path, result }, directory);
  } finally {
    await rm(path, { force: true });
    if (options.dispatcher === undefined) await dispatcher.destroy();
  }
}

/** What came must be a disk image. Without qemu-img only its first bytes tell; a later stage asks for qemu-img. */
async function checkImage(url: URL, path: string, signal: AbortSignal): Promise<void> {
  try {
    await inspectImage(path, { signal });
  } catch (error) {
    if (!(error instanceof VmctlError)) throw error;
    if (error.code === 'HOST_UNSUPPORTED') return;
    if (error.code !== 'IMAGE_INVALID') throw error;
    throw new VmctlError('IMAGE_INVALID', `${shownUrl(url)} is not an image: ${String(error.fields['reason'])}`, {
      hint: 'Check that the URL leads to a disk image in qcow2 or raw format, compressed or not.',
      cause: error,
      fields: { ...error.fields, path: null, url: shownUrl(url) },
    });
  }
}

interface Arrival {
  readonly part: string;
  readonly result: Downloaded;
}

/** Record first, then the file: a record whose file is missing counts for nothing, and a file that is there is complete. */
async function keep(url: URL, { part, result }: Arrival, directory: string): Promise<string> {
  const name = cachedFileName(url, result.file.sha256);
  const path = join(directory, name);
  const { file, ...wire } = result;
  const record: ImageRecord = {
    schemaVersion: 1,
    key: urlKey(url),
    url: shownUrl(url),
    ...wire,
    fetchedAt: new Date().toISOString(),
    file: { name, ...file },
  };
  await writeFileAtomically(`${path}${RECORD_SUFFIX}`, `${JSON.stringify(record, null, 2)}\n`);
  // The same bytes fetched again: the file may be in use, and stays.
  if ((await fileBytes(path)) === file.bytes) return path;
  await chmod(part, IMAGE_MODE);
  await rename(part, path);
  await syncDirectory(directory);
  return path;
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
