/**
 * Gets images from URLs into the cache: `cache-index.ts` says what is kept there. An image is found by where it comes
 * from and, where there is a checksum, by the digest of the bytes as they were downloaded, wherever those came from.
 */
import type { Dispatcher } from 'undici';
import { VmctlError } from '../errors.js';
import type { StageContext } from '../model/event.js';
import { makeDirectory } from '../util/fs.js';
import { withLock } from '../util/lock.js';
import { pause } from '../util/wait.js';
import { addOrigin, storeImage } from './cache-store.js';
import {
  type CachedImage,
  type Origin,
  downloadLock,
  listCachedImages,
  noteUse,
  originOf,
  partialDownload,
  withUseLock,
} from './cache-index.js';
import { type Downloaded, download } from './download.js';
import { type Environment, environmentDispatcher } from './http.js';
import { partialProgress, removePartial } from './partial-file.js';
import { inspectImage } from './qemu-img.js';
import type { Content, ImagePlace, RemoteImage } from './place.js';
import { placeOf } from './places.js';
import type { PullPolicy } from '../model/pull-policy.js';
import { SharedWork } from './shared-work.js';

export interface FetchOptions extends StageContext {
  /** Absolute path of the cache. */
  readonly directory: string;
  /** What this process is doing, for another one that waits: `vmctl up`. */
  readonly command: string;
  /** Default `missing`. */
  readonly pull?: PullPolicy;
  /** Where proxies and credentials are named; default none. */
  readonly environment?: Environment;
  /** The user's home directory, where docker keeps who is logged in; default none. */
  readonly home?: string;
  /** Node's name of the guest's processor, where a place has images for several; default this host's. */
  readonly architecture?: string;
  /** Default: one that goes through the environment's proxies. */
  readonly dispatcher?: Dispatcher;
  /** Milliseconds without a byte that count as a failure; default 30 s. */
  readonly stallMs?: number;
  /** Milliseconds before the second attempt, the third, and so on; default 1, 2, 4 and 8 s. */
  readonly retryDelaysMs?: readonly number[];
  /** Waits for a place among the downloads of this process, and gives the function that leaves it; default none. */
  readonly takePlace?: (signal: AbortSignal) => Promise<() => void>;
  /** Who else in this process wants the same; default everybody. */
  readonly shared?: SharedWork<string>;
}

const DEFAULT_STALL_MS = 30_000;
const DEFAULT_RETRY_DELAYS_MS = [1000, 2000, 4000, 8000];
const WATCH_INTERVAL_MS = 250;

const everybody = new SharedWork<string>();

/**
 * The absolute path of the image, which is downloaded first if it is not in the cache: once, however many ask in this
 * process and in others. Throws `IMAGE_NOT_FOUND`, `IMAGE_DOWNLOAD`, `IMAGE_CHECKSUM`, `IMAGE_INVALID` for what is no
 * disk image, `HOST_UNSUPPORTED`, `STATE_DIRECTORY`, `UNSUPPORTED` for another scheme, and `ABORTED`.
 */
export async function fetchImage(image: RemoteImage, options: FetchOptions): Promise<string> {
  const { directory, shared = everybody, pull = 'missing', environment = {} } = options;
  const { home = '', architecture = process.arch } = options;
  const place = placeOf(image, { environment, home, architecture });
  const key = JSON.stringify([directory, place.address.key, image.checksum, pull]);
  return shared.join(key, options, (context) => new Fetch(place, { ...options, ...context, pull }).run());
}

/** One image on its way into the cache. */
class Fetch {
  readonly #place: ImagePlace;
  readonly #options: FetchOptions & { readonly pull: PullPolicy };
  /** ISO 8601; what came later answers even a question that is always asked. */
  readonly #askedAt = new Date().toISOString();

  constructor(place: ImagePlace, options: FetchOptions & { readonly pull: PullPolicy }) {
    this.#place = place;
    this.#options = options;
  }

  async run(): Promise<string> {
    const { pull, stallMs = DEFAULT_STALL_MS } = this.#options;
    const { address, proxies } = this.#place;
    // Looked at once: what another process stores after that answers this question and need not be asked about.
    const images = await soundImages(this.#options.directory);
    const known = images.some((image) => this.#isKnown(image)) ? await this.#reuse() : null;
    if (known !== null) return known;
    if (pull === 'never') throw notThere(address.shown);
    const before = images.flatMap(({ record }) => originOf(record, address.key) ?? []).at(-1) ?? null;
    const dispatcher = this.#options.dispatcher ?? environmentDispatcher(proxies, stallMs);
    try {
      return await this.#ask(before, dispatcher);
    } finally {
      if (this.#options.dispatcher === undefined) await dispatcher.destroy();
    }
  }

  /** Asks what there is now, and gets it unless it is here. */
  async #ask(before: Origin | null, dispatcher: Dispatcher): Promise<string> {
    const { signal, reporter, directory } = this.#options;
    const { stallMs = DEFAULT_STALL_MS, retryDelaysMs: delaysMs = DEFAULT_RETRY_DELAYS_MS } = this.#options;
    const requests = { dispatcher, signal, reporter, stallMs, delaysMs };
    const content = await this.#place.look(before, requests);
    const found = await this.#reuseContent(content);
    if (found !== null) return found;
    await makeDirectory(directory);
    return this.#locked(content, async () => {
      const meanwhile = await this.#reuseContent(content);
      if (meanwhile !== null) return meanwhile;
      const leave = await this.#options.takePlace?.(signal);
      try {
        const path = partialDownload(directory, content.key);
        const accept = (file: string): Promise<void> => this.#accept(file);
        const stored = await this.#store(
          content,
          await download(content, { ...requests, path, accept, checksum: content.checksum }),
        );
        await removePartial(path);
        return stored;
      } finally {
        leave?.();
      }
    });
  }

  #isKnown({ record }: CachedImage): boolean {
    return this.#place.isKnown(record, this.#options.pull);
  }

  /** A known image, noted as used. Whoever removes unused ones cannot come between finding and noting it. */
  async #reuse(): Promise<string | null> {
    return withUseLock(this.#options, async () => {
      const found = await newestImage(this.#options.directory, (image) => this.#isKnown(image));
      if (found !== null) await noteUse(found.path);
      return found?.path ?? null;
    });
  }

  /** An image of this content that is there, from wherever it came; noted as what this place leads to. */
  async #reuseContent(content: Content): Promise<string | null> {
    const { directory, pull } = this.#options;
    const { key, shown } = this.#place.address;
    const isRecent = ({ fetchedAt }: Origin): boolean => pull !== 'always' || fetchedAt >= this.#askedAt;
    const hasContent = (origin: Origin): boolean => {
      if (content.checksum === null) return origin.key === key && isRecent(origin);
      return origin[content.checksum.algorithm] === content.checksum.digest;
    };
    const isWanted = ({ record }: CachedImage): boolean => record.origins.some(hasContent);
    if ((await newestImage(directory, isWanted)) === null) return null;
    return withUseLock(this.#options, async () => {
      const found = await newestImage(directory, isWanted);
      const same = found?.record.origins.findLast(hasContent);
      if (found === null || same === undefined) return null;
      const { checksumUrl, manifest } = content;
      await addOrigin(found, { ...same, key, url: shown, checksumUrl, manifest });
      return found.path;
    });
  }

  /** Runs the work while nobody else downloads that content; meanwhile shows how far they are. */
  async #locked<T>(content: Content, work: () => Promise<T>): Promise<T> {
    const { directory, command, signal, reporter } = this.#options;
    const watching = new AbortController();
    const settings = {
      command,
      signal,
      // A download that goes on is waited for; one that stalls gives up by itself.
      timeoutMs: Number.POSITIVE_INFINITY,
      onWait: (owner: { readonly command: string; readonly pid: number }) => {
        const what = `"${owner.command}" (pid ${owner.pid})`;
        reporter.status(`waiting for ${what}, which downloads ${this.#place.address.name}`);
        void watchProgress(partialDownload(directory, content.key), { reporter, signal: watching.signal });
      },
    };
    try {
      return await withLock(downloadLock(directory, content.key), settings, () => {
        watching.abort();
        return work();
      });
    } finally {
      watching.abort();
    }
  }

  /** What came must be a disk image. Without qemu-img only its first bytes tell; a later stage asks for qemu-img. */
  async #accept(path: string): Promise<void> {
    const { shown } = this.#place.address;
    try {
      await inspectImage(path, { signal: this.#options.signal });
    } catch (error) {
      if (!(error instanceof VmctlError)) throw error;
      if (error.code === 'HOST_UNSUPPORTED') return;
      if (error.code !== 'IMAGE_INVALID') throw error;
      throw new VmctlError('IMAGE_INVALID', `${shown} is not an image: ${String(error.fields['reason'])}`, {
        hint: 'Check that the URL leads to a disk image in qcow2 or raw format, compressed or not.',
        cause: error,
        fields: { ...error.fields, path: null, url: shown },
      });
    }
  }

  #store({ checksumUrl, manifest }: Content, { file, ...wire }: Downloaded): Promise<string> {
    const { key, shown, name } = this.#place.address;
    const origin = { key, url: shown, ...wire, fetchedAt: new Date().toISOString(), checksumUrl, manifest };
    return storeImage({ ...file, name, origin }, this.#options);
  }
}

/** Tells how far another process is with a download. */
async function watchProgress(path: string, { reporter, signal }: StageContext): Promise<void> {
  try {
    for (;;) {
      const progress = await partialProgress(path);
      if (signal.aborted) return;
      if (progress !== null) reporter.progress(progress.bytes, progress.totalBytes);
      await pause(WATCH_INTERVAL_MS, signal);
    }
  } catch {
    // It is only for the eye; whoever waits gets the lock or its error.
  }
}

/** The newest image of that kind that is sound. */
async function newestImage(directory: string, isWanted: (image: CachedImage) => boolean): Promise<CachedImage | null> {
  return (await soundImages(directory)).filter(isWanted).at(-1) ?? null;
}

/** The images that nobody found to be damaged; the newest one comes last. */
async function soundImages(directory: string): Promise<readonly CachedImage[]> {
  const age = ({ record }: CachedImage): string => originOf(record)?.fetchedAt ?? '';
  const images = (await listCachedImages(directory)).filter(({ record }) => record.damagedAt === null);
  return images.toSorted((a, b) => (age(a) < age(b) ? -1 : 1));
}

function notThere(shown: string): VmctlError {
  return new VmctlError('IMAGE_NOT_FOUND', `the image ${shown} is not in the cache, and nothing may be downloaded`, {
    hint: 'Get it with "vmctl image pull", or allow downloads with "--pull missing".',
    fields: { url: shown },
  });
}
