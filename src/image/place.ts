/** The places that images come from: what each leads to at the moment, and how to ask it. */
import type { Checksum, ChecksumSource } from '../model/spec.js';
import { type ImageRecord, type Origin, originOf } from './cache-index.js';
import { fetchChecksum } from './checksum-source.js';
import type { ContentSource } from './download.js';
import {
  type BodyRange,
  type Environment,
  type HttpBody,
  type HttpOptions,
  headerOf,
  openUrl,
  sendRequest,
} from './http.js';
import type { PullPolicy } from '../model/pull-policy.js';
import { type RetryOptions, retrying } from './retry.js';
import { RegistryPlace, type RegistryUser, refuseChecksum } from './oci/place.js';
import { parseOciReference } from './oci/reference.js';
import { type ImageAddress, addressOf, isOci, parseImageUrl } from './source.js';

export interface RemoteImage {
  readonly url: string;
  readonly checksum: ChecksumSource | null;
}

export type RequestOptions = HttpOptions & RetryOptions;

/** What a place leads to at the moment. */
export interface Content extends ContentSource {
  /** Of the content, or of the place where nothing is known of the content before it has come; 64 hexadecimal digits. */
  readonly key: string;
  /** What the bytes have to be; null where nobody has promised anything. */
  readonly checksum: Checksum | null;
  /** The list that promised it. */
  readonly checksumUrl: string | null;
  /** The digest of the manifest that names it. */
  readonly manifest: string | null;
}

export interface ImagePlace {
  readonly address: ImageAddress;
  /** Where the proxies on the way there are named. */
  readonly proxies: Environment;
  /** Whether an image that is there is this one, without asking anybody. */
  isKnown(record: ImageRecord, pull: PullPolicy): boolean;
  /** Finds out what is there now; `before` is what came from there the last time. Throws as a download does. */
  look(before: Origin | null, options: RequestOptions): Promise<Content>;
}

/**
 * The place that a URL leads to. Throws `IMAGE_NOT_FOUND` for what is no URL, `UNSUPPORTED` for another scheme, and for
 * a checksum of what is in a registry.
 */
export function placeOf({ url, checksum }: RemoteImage, user: RegistryUser): ImagePlace {
  if (!isOci(url)) return new WebPlace(parseImageUrl(url), { checksum, proxies: user.environment });
  const place = new RegistryPlace(parseOciReference(url), user);
  return checksum === null ? place : refuseChecksum(place.address.shown);
}

/** A file on a web server. */
class WebPlace implements ImagePlace {
  readonly address: ImageAddress;
  readonly proxies: Environment;
  readonly #url: URL;
  readonly #checksum: ChecksumSource | null;

  constructor(
    url: URL,
    { checksum, proxies }: { readonly checksum: ChecksumSource | null; readonly proxies: Environment },
  ) {
    this.address = addressOf(url.href);
    this.proxies = proxies;
    this.#url = url;
    this.#checksum = checksum;
  }

  isKnown(record: ImageRecord, pull: PullPolicy): boolean {
    const promised = this.#checksum;
    if (promised !== null && promised.algorithm !== 'list') {
      // The same bytes, wherever they came from, and whatever the server has by now.
      return record.origins.some((origin) => origin[promised.algorithm] === promised.digest);
    }
    const origin = originOf(record, this.address.key);
    if (origin === undefined || pull === 'always') return false;
    return promised === null || origin.checksumUrl === promised.url;
  }

  async look(before: Origin | null, options: RequestOptions): Promise<Content> {
    const { key, shown } = this.address;
    const open = (range: BodyRange, http: HttpOptions): Promise<HttpBody> => openUrl(this.#url, range, http);
    return { key, shown, open, manifest: null, ...(await this.#promise(before, options)) };
  }

  async #promise(before: Origin | null, options: RequestOptions): Promise<Pick<Content, 'checksum' | 'checksumUrl'>> {
    const promised = this.#checksum;
    if (promised?.algorithm === 'list') {
      options.reporter.status(`asking ${new URL(promised.url).host} for the checksum`);
      const checksum = await retrying(() => fetchChecksum(promised, this.#url, options), options);
      return { checksum, checksumUrl: promised.url };
    }
    if (promised !== null || before === null) return { checksum: promised, checksumUrl: null };
    const same = await retrying(() => isUnchanged(this.#url, before, options), options);
    return { checksum: same ? { algorithm: 'sha256', digest: before.sha256 } : null, checksumUrl: null };
  }
}

/** Whether the server says that it has what came from there before. One that cannot tell gets a download. */
async function isUnchanged(url: URL, { etag, lastModified, bytes }: Origin, options: HttpOptions): Promise<boolean> {
  const conditions = {
    ...(etag === null ? {} : { 'if-none-match': etag }),
    ...(lastModified === null ? {} : { 'if-modified-since': lastModified }),
  };
  const { statusCode, headers, body } = await sendRequest(url, { method: 'HEAD', headers: conditions }, options);
  await body.dump();
  if (statusCode === 304) return true;
  if (statusCode !== 200 || (etag === null && lastModified === null)) return false;
  const has = (name: string, value: string | null): boolean => value === null || headerOf(headers, name) === value;
  return has('etag', etag) && has('last-modified', lastModified) && has('content-length', String(bytes));
}
