/**
 * Downloads one content to one file: bounded memory, digests while the bytes come, decompression on the way, and after
 * a failure it goes on where it was, in this process or in a later one. It knows no cache; whoever calls it holds the
 * content's lock.
 */
import { Buffer } from 'node:buffer';
import { rm } from 'node:fs/promises';
import { Readable } from 'node:stream';
import { VmctlError } from '../errors.js';
import type { Checksum } from '../model/spec.js';
import { errorCode, stateDirectoryError } from '../util/fs.js';
import { throwIfAborted } from '../util/wait.js';
import { decompress } from './decompress.js';
import { BUFFER_BYTES, Digest, DigestedFile } from './digested-file.js';
import type { HttpBody, HttpOptions } from './http.js';
import { DECOMPRESSED_SUFFIX, PartialFile } from './partial-file.js';
import type { RetryOptions } from './retry.js';
import { type Compression, SIGNATURE_BYTES, signatureOf } from './signature.js';
import { Attempts, type ContentSource, StartAnew, type Wire, wireBytes } from './wire.js';

export interface DownloadOptions extends RetryOptions, HttpOptions {
  readonly checksum: Checksum | null;
  /** The file that the bytes are kept in; it stays, to be continued, where the download is only interrupted. */
  readonly path: string;
  /** Looks at what has come. Throws `IMAGE_INVALID` for what is not wanted. */
  readonly accept: (path: string) => Promise<void>;
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
  readonly file: { readonly path: string; readonly sha256: string; readonly bytes: number };
}

/**
 * Downloads, with a new attempt after what may pass. Throws `IMAGE_NOT_FOUND`, `IMAGE_DOWNLOAD`, `IMAGE_CHECKSUM`,
 * `IMAGE_INVALID`, `STATE_DIRECTORY` when the file cannot be written, `ABORTED`.
 */
export async function download(source: ContentSource, options: DownloadOptions): Promise<Downloaded> {
  const part = await PartialFile.open(options.path, { hasChecksum: options.checksum !== null });
  const attempts = new Attempts(options);
  try {
    return await untilWhole(source, { part, attempts }, options);
  } catch (error) {
    if (part.isContinuable && isInterruption(error)) await part.close();
    else await part.clear();
    throw error;
  }
}

async function untilWhole(
  source: ContentSource,
  work: Pick<Wire, 'part' | 'attempts'>,
  options: DownloadOptions,
): Promise<Downloaded> {
  const { part, attempts } = work;
  let first: HttpBody | null = null;
  for (let trusted = true; ; ) {
    try {
      return await receive(source, { ...work, first }, options);
    } catch (error) {
      if (error instanceof StartAnew) first = error.body;
      else {
        // Bytes of two versions, or of before a crash; or the server's own are wrong, which the next time tells.
        if (!trusted || !attempts.isPieced || !isWrongContent(error)) throw error;
        trusted = false;
        first = null;
        options.reporter.log('what came in several pieces is not what was expected; fetching all of it anew');
      }
      attempts.beginAnew();
      await part.clear();
    }
  }
}

/** One pass over the whole content: what is kept, and what comes after it. */
async function receive(
  source: ContentSource,
  pass: Omit<Wire, 'digest'>,
  options: DownloadOptions,
): Promise<Downloaded> {
  const { part } = pass;
  const { checksum, path, signal } = options;
  const wire = new Digest(checksum?.algorithm === 'sha512' ? ['sha256', 'sha512'] : ['sha256']);
  const { head, chunks } = await peek(wireBytes(source, { ...pass, digest: wire }, options));
  const signature = signatureOf(head);
  const compression = signature.kind === 'compressed' ? signature.by : null;
  const output = `${path}${DECOMPRESSED_SUFFIX}`;
  const file = compression === null ? wire : new Digest(['sha256']);
  if (compression === null) {
    for await (const _chunk of chunks) throwIfAborted(signal);
    await part.sync();
  } else {
    const input = Readable.from(chunks, { objectMode: false, highWaterMark: BUFFER_BYTES });
    try {
      const onNote = (text: string): void => options.reporter.log(text);
      await decompress(compression, { input, output: new DigestedFile(output, file), signal, onNote });
    } catch (error) {
      await rm(output, { force: true });
      throw decompressFailure(source, error, { output, signal });
    }
  }
  await part.close();
  if (checksum !== null) verify(source, checksum, wire.hex(checksum.algorithm));
  const image = compression === null ? path : output;
  await options.accept(image);
  return {
    sha256: wire.hex('sha256'),
    sha512: checksum?.algorithm === 'sha512' ? wire.hex('sha512') : null,
    bytes: wire.bytes,
    etag: part.etag,
    lastModified: part.lastModified,
    compression,
    file: { path: image, sha256: file.hex('sha256'), bytes: file.bytes },
  };
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

function verify({ shown }: ContentSource, { algorithm, digest }: Checksum, got: string): void {
  if (got === digest) return;
  throw new VmctlError('IMAGE_CHECKSUM', `${shown} has another ${algorithm} checksum than expected`, {
    details: `expected ${digest}\ngot      ${got}`,
    hint: 'If the image was released anew, take over its checksum; if not, do not trust it.',
    fields: { url: shown, algorithm, expected: digest, got },
  });
}

/** What went wrong between the decompression and the disk; what its input said stays as it is. */
function decompressFailure(
  { shown }: ContentSource,
  error: unknown,
  { output, signal }: { readonly output: string; readonly signal: AbortSignal },
): unknown {
  if (signal.aborted) return new VmctlError('ABORTED', 'interrupted', { cause: error });
  if (error instanceof StartAnew || (error instanceof VmctlError && error.code !== 'COMMAND_FAILED')) return error;
  const code = errorCode(error);
  const words = error instanceof Error ? error.message : String(error);
  if (error instanceof VmctlError || code?.startsWith('Z_') === true) {
    return new VmctlError('IMAGE_DOWNLOAD', `cannot download ${shown}: its compressed content is damaged: ${words}`, {
      cause: error,
      hint: 'Try again; if it fails again, the file on the server is damaged.',
      fields: { url: shown, damaged: true },
    });
  }
  return code === null ? error : stateDirectoryError('write', output, error);
}

/** What came whole and is not what it should be. */
function isWrongContent(error: unknown): boolean {
  if (!(error instanceof VmctlError)) return false;
  return error.code === 'IMAGE_CHECKSUM' || error.code === 'IMAGE_INVALID' || error.fields['damaged'] === true;
}

/** After these, the bytes that are there are as good as they were. A full disk needs its space back more. */
function isInterruption(error: unknown): boolean {
  if (!(error instanceof VmctlError)) return false;
  return error.code === 'ABORTED' || (error.code === 'IMAGE_DOWNLOAD' && error.fields['damaged'] !== true);
}
