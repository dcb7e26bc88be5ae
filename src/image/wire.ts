/**
 * The bytes of one content from the first to the last, as they come over the wire: those that are kept in a file, and
 * after them what is missing, asked for again while that helps.
 */
import { throwIfAborted } from '../util/wait.js';
import type { Digest } from './digested-file.js';
import {
  type BodyRange,
  type HttpBody,
  type HttpOptions,
  RangeRefused,
  TransientFailure,
  downloadError,
  networkFailure,
} from './http.js';
import type { PartialFile } from './partial-file.js';
import { Retries, type RetryOptions } from './retry.js';

/** Where a content comes from. */
export interface ContentSource {
  /** For messages, without secrets. */
  readonly shown: string;
  /** Asks for the content from a place on; an answer may also bring all of it. Throws as `openUrl` does. */
  open(range: BodyRange, options: HttpOptions): Promise<HttpBody>;
}

const PROGRESS_INTERVAL_MS = 100;
/** So much more than ever before is worth a new round of attempts. */
const PROGRESS_BYTES = 1024 ** 2;

/** What has come cannot be continued; the body, if there is one, is that of the whole. */
export class StartAnew extends Error {
  readonly body: HttpBody | null;

  constructor(body: HttpBody | null) {
    super();
    this.body = body;
  }
}

/** Counts failures, and what the attempts have brought. */
export class Attempts {
  readonly #retries: Retries;
  #furthest = 0;
  /** The bytes came in more than one answer. */
  isPieced = false;

  constructor(options: RetryOptions) {
    this.#retries = new Retries(options);
  }

  beginAnew(): void {
    this.isPieced = false;
  }

  async pauseAfter(failure: TransientFailure, bytes: number): Promise<void> {
    if (bytes >= this.#furthest + PROGRESS_BYTES) this.#retries.forget();
    this.#furthest = Math.max(this.#furthest, bytes);
    await this.#retries.pauseAfter(failure);
  }
}

export interface Wire {
  readonly part: PartialFile;
  readonly attempts: Attempts;
  /** The answer that is there already; null where nobody was asked yet. */
  readonly first: HttpBody | null;
  /** Takes every byte. */
  readonly digest: Digest;
}

/** The content's bytes from the first to the last, digested, and kept in the file. Throws `StartAnew`. */
export async function* wireBytes(
  source: ContentSource,
  { part, attempts, first, digest }: Wire,
  options: RetryOptions & HttpOptions,
): AsyncGenerator<Uint8Array, void> {
  const report = throttled(() => options.reporter.progress(digest.bytes, part.totalBytes));
  attempts.isPieced = part.kept > 0;
  for await (const chunk of part.keptBytes()) {
    throwIfAborted(options.signal);
    digest.update(chunk);
    yield chunk;
  }
  let body = first;
  for (let begun = part.kept > 0; !begun || digest.bytes !== part.totalBytes; ) {
    try {
      body ??= await open(source, { from: digest.bytes, part }, options);
      begun = true;
      await part.expect(body);
      for await (const chunk of bytesOf(body)) {
        digest.update(chunk);
        await part.append(chunk);
        report();
        yield chunk;
      }
      checkLength(source, digest.bytes, body.totalBytes);
      break;
    } catch (error) {
      if (error instanceof StartAnew) throw error;
      const failure = networkFailure(source.shown, error, options);
      if (!(failure instanceof TransientFailure)) throw failure;
      await attempts.pauseAfter(failure, digest.bytes);
      attempts.isPieced = digest.bytes > 0;
    } finally {
      body?.body.on('error', () => {}).destroy();
      body = null;
    }
  }
  options.reporter.progress(digest.bytes, part.totalBytes ?? digest.bytes);
}

/** Asks for what is missing. Throws `StartAnew` where what is there is not a part of what the server has now. */
async function open(
  source: ContentSource,
  { from, part }: { readonly from: number; readonly part: PartialFile },
  options: RetryOptions & HttpOptions,
): Promise<HttpBody> {
  if (from > 0 && !part.isContinuable) throw new StartAnew(null);
  let body: HttpBody;
  try {
    body = await source.open({ from, validator: from === 0 ? null : part.validator }, options);
  } catch (error) {
    throw error instanceof RangeRefused ? new StartAnew(null) : error;
  }
  if (body.from === from && (from === 0 || !part.isOther(body))) return body;
  if (body.from === 0) throw new StartAnew(body);
  body.body.on('error', () => {}).destroy();
  throw new StartAnew(null);
}

async function* bytesOf({ body }: HttpBody): AsyncGenerator<Uint8Array, void> {
  for await (const chunk of body) {
    const bytes: unknown = chunk;
    if (!(bytes instanceof Uint8Array)) throw new TypeError('a body of bytes was expected');
    yield bytes;
  }
}

function checkLength({ shown }: ContentSource, got: number, promised: number | null): void {
  if (promised === null || got === promised) return;
  if (got > promised) throw downloadError(shown, `${got} bytes came, and ${promised} were promised`);
  throw new TransientFailure(downloadError(shown, `only ${got} of ${promised} bytes came`));
}

/** Calls at once and then no more often than a person can read. */
function throttled(tell: () => void): () => void {
  let told = Number.NEGATIVE_INFINITY;
  return () => {
    const now = performance.now();
    if (now - told < PROGRESS_INTERVAL_MS) return;
    told = now;
    tell();
  };
}
