/** The places that images come from: what each has to tell before anything is fetched. */
import type { Checksum, ChecksumSource } from '../model/spec.js';
import type { PullPolicy } from '../model/pull-policy.js';
import type { ImageRecord, Origin } from './cache-index.js';
import type { Environment, HttpOptions } from './http.js';
import type { RetryOptions } from './retry.js';
import type { ImageAddress } from './source.js';
import type { ContentSource } from './wire.js';

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
