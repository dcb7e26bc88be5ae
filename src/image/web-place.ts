/** A file on a web server, as a place that images come from. */
import type { ChecksumSource } from '../model/spec.js';
import type { PullPolicy } from '../model/pull-policy.js';
import { type ImageRecord, type Origin, originOf } from './cache-index.js';
import { fetchChecksum } from './checksum-source.js';
import {
  type BodyRange,
  type Environment,
  type HttpBody,
  type HttpOptions,
  headerOf,
  openUrl,
  sendRequest,
} from './http.js';
import type { Content, ImagePlace, RequestOptions } from './place.js';
import { retrying } from './retry.js';
import { type ImageAddress, addressOf } from './source.js';

export class WebPlace implements ImagePlace {
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
