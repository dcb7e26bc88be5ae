/**
 * Downloads one image to one file: bounded memory, digests while the bytes come, decompression on the way, several
 * attempts. It knows no cache; whoever calls it owns the file.
 */
import { Buffer } from 'node:buffer';
import { rm } from 'node:fs/promises';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type { Dispatcher } from 'undici';
import { VmctlError } from '../errors.js';
import type { StageContext } from '../model/event.js';
import type { Checksum } from '../model/spec.js';
import { errorCode } from '../util/fs.js';
import { pause } from '../util/wait.js';
import { decompress } from './decompress.js';
import { BUFFER_BYTES, Digest, DigestedFile } from './digested-file.js';
import { type HttpBody, TransientFailure, downloadError, networkFailure, openUrl } from './http.js';
import { type Compression, SIGNATURE_BYTES, signatureOf } from './signature.js';
import { shownUrl } from './source.js';

export interface DownloadOptions extends StageContext {
  readonly dispatcher: Dispatcher;
  readonly checksum: Checksum | null;
  /** The file to write; it is gone again after a failure. */
  readonly path: string;
  /** Milliseconds without a byte that count as a failure. */
  readonly stallMs: number;
  /** Pauses before the second attempt, the third, and so on, in milliseconds. */
  readonly retryDelaysMs: readonly number[];
}

/** What came over the wire, and what it became. */
export interface Downloaded {
  /** Of the bytes as they came; hexadecimal digits. */
  readonly sha256: string;
  /** Only where a checksum asks for it. */
  readonly sha512: string | null;
  readonly bytes: number;
  readonly etag: string | null;
  readonly lastModified: string | null;
  readonly compression: Compression | null;
  /** Of the file. */
  readonly file: { readonly sha256: string; readonly bytes: number };
}

/** A server that wants a longer break than this is not waited for. */
const LONGEST_RETRY_AFTER_MS = 60_000;
const PROGRESS_INTERVAL_MS = 100;
const FILE_ERRORS = ['ENOSPC', 'EDQUOT', 'EFBIG', 'EACCES', 'EPERM', 'EROFS', 'EIO', 'EMFILE', 'ENFILE', 'ENOENT'];

/**
 * Downloads, with a new attempt after what may pass. Throws `IMAGE_NOT_FOUND`, `IMAGE_DOWNLOAD`, `IMAGE_CHECKSUM`,
 * `HOST_UNSUPPORTED` without the tool that decompresses, `STATE_DIRECTORY` when the file cannot be written, `ABORTED`.
 */
export async function download(url: URL, options: DownloadOptions): Promise<Downloaded> {
  try {
    for (const delay of options.retryDelaysMs) {
      try {
        return await attempt(url, options);
      } catch (error) {
        if (!(error instanceof TransientFailure)) throw error;
        await pauseAfter(error, delay, options);
      }
    }
    return await attempt(url, options);
  } catch (error) {
    await rm(options.path, { force: true });
    throw error instanceof TransientFailure ? error.error : error;
  }
}

async function pauseAfter(failure: TransientFailure, delay: number, options: DownloadOptions): Promise<void> {
  const asked = failure.retryAfterMs ?? 0;
  if (asked > LONGEST_RETRY_AFTER_MS) {
    throw new VmctlError('IMAGE_DOWNLOAD', `${failure.message}, and wants no request for ${asked / 1000} s`, {
      hint: 'Try again later.',
      cause: failure.error,
      fields: failure.error.fields,
    });
  }
  // Several hosts that failed together should not come back together.
  const wait = Math.max(asked, delay * (1 + Math.random() / 4));
  options.reporter.log(failure.message, 'note');
  options.reporter.status(`trying again in ${(wait / 1000).toFixed(1)} s`);
  await pause(wait, options.signal);
}

/** One attempt, from the first byte; a resumed one would begin here, with what the file already holds. */
async function attempt(url: URL, options: DownloadOptions): Promise<Downloaded> {
  const { checksum, reporter } = options;
  const response = await openUrl(url, { from: 0, validator: null }, options);
  const { totalBytes, etag, lastModified } = response;
  const wire = new Digest(checksum?.algorithm === 'sha512' ? ['sha256', 'sha512'] : ['sha256']);
  const { compression, file } = await receive(url, { response, wire }, options);
  reporter.progress(wire.bytes, totalBytes ?? wire.bytes);
  if (totalBytes !== null && wire.bytes !== totalBytes) {
    throw new TransientFailure(downloadError(url, `only ${wire.bytes} of ${totalBytes} bytes came`));
  }
  if (checksum !== null) verify(url, checksum, wire.hex(checksum.algorithm));
  const sha256 = wire.hex('sha256');
  return {
    sha256,
    sha512: checksum?.algorithm === 'sha512' ? wire.hex('sha512') : null,
    bytes: wire.bytes,
    etag,
    lastModified,
    compression,
    file: file === null ? { sha256, bytes: wire.bytes } : { sha256: file.hex('sha256'), bytes: file.bytes },
  };
}

interface Transfer {
  readonly response: HttpBody;
  /** Takes what comes over the wire. */
  readonly wire: Digest;
}

interface Received {
  readonly compression: Compression | null;
  /** Null where the file holds the bytes as they came. */
  readonly file: Digest | null;
}

/** Writes the body to the file, decompressed where its first bytes say that it is compressed. */
async function receive(url: URL, { response, wire }: Transfer, options: DownloadOptions): Promise<Received> {
  const { path, signal } = options;
  try {
    const { head, chunks } = await peek(measured(url, { response, wire }, options));
    const signature = signatureOf(head);
    const input = Readable.from(chunks, { objectMode: false, highWaterMark: BUFFER_BYTES });
    if (signature.kind !== 'compressed') {
      await pipeline(input, new DigestedFile(path, null), { signal });
      return { compression: null, file: null };
    }
    const file = new Digest(['sha256']);
    await decompress(signature.by, { input, output: new DigestedFile(path, file), signal });
    return { compression: signature.by, file };
  } catch (error) {
    throw receivingFailure(url, error, options);
  } finally {
    response.body.on('error', () => {}).destroy();
  }
}

/** The body's chunks, counted and digested; an error of the connection is told for what it means. */
async function* measured(
  url: URL,
  { response, wire }: Transfer,
  options: DownloadOptions,
): AsyncGenerator<Uint8Array, void> {
  let reported = performance.now();
  try {
    for await (const chunk of response.body) {
      const bytes: unknown = chunk;
      if (!(bytes instanceof Uint8Array)) throw new TypeError('a body of bytes was expected');
      wire.update(bytes);
      if (performance.now() - reported >= PROGRESS_INTERVAL_MS) {
        reported = performance.now();
        options.reporter.progress(wire.bytes, response.totalBytes);
      }
      yield bytes;
    }
  } catch (error) {
    throw networkFailure(url, error, options);
  }
}

interface Peeked {
  readonly head: Uint8Array;
  /** All chunks, those of the head too. */
  readonly chunks: AsyncGenerator<Uint8Array, void>;
}

/** Looks at the first bytes before deciding what to do with all of them. */
async function peek(source: AsyncGenerator<Uint8Array, void>): Promise<Peeked> {
  const first: Uint8Array[] = [];
  let length = 0;
  while (length < SIGNATURE_BYTES) {
    const { value, done } = await source.next();
    if (done === true) break;
    first.push(value);
    length += value.length;
  }
  async function* all(): AsyncGenerator<Uint8Array, void> {
    yield* first;
    yield* source;
  }
  return { head: Buffer.concat(first), chunks: all() };
}

function verify(url: URL, { algorithm, digest }: Checksum, got: string): void {
  if (got === digest) return;
  throw new VmctlError('IMAGE_CHECKSUM', `${shownUrl(url)} has another ${algorithm} checksum than expected`, {
    details: `expected ${digest}\ngot      ${got}`,
    hint: 'If the image was released anew, take over its checksum; if not, do not trust it.',
    fields: { url: shownUrl(url), algorithm, expected: digest, got },
  });
}

/** What went wrong between the connection and the disk. */
function receivingFailure(url: URL, error: unknown, { path, signal }: DownloadOptions): Error {
  if (error instanceof TransientFailure) return error;
  if (signal.aborted) return new VmctlError('ABORTED', 'interrupted', { cause: error });
  const code = errorCode(error);
  const words = error instanceof Error ? error.message : String(error);
  if (error instanceof VmctlError && error.code !== 'COMMAND_FAILED') return error;
  if (error instanceof VmctlError || code?.startsWith('Z_') === true) {
    return downloadError(url, `its compressed content is damaged: ${words}`, {
      cause: error,
      hint: 'Try again; if it fails again, the file on the server is damaged.',
    });
  }
  if (code !== null && FILE_ERRORS.includes(code)) {
    return new VmctlError('STATE_DIRECTORY', `cannot write ${path}: ${words}`, {
      cause: error,
      hint: code === 'ENOSPC' || code === 'EDQUOT' ? 'Free some space there.' : 'Check who owns the folder.',
    });
  }
  return error instanceof Error ? error : new Error(words);
}
