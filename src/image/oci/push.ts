/**
 * Puts a disk image into a registry, by the OCI distribution specification 1.1, "Push": the blobs that are not there
 * yet, then the manifest that ties them together under a tag.
 *
 * The architecture goes into the configuration, as ORAS does it: an image manifest has no other standard place for it,
 * and the operating system of a guest is not known here. The same file for the same architecture gives the same
 * manifest, so pushing it again changes nothing.
 */
import { Buffer } from 'node:buffer';
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import { basename } from 'node:path';
import { Readable } from 'node:stream';
import { VmctlError } from '../../errors.js';
import type { StageReporter } from '../../model/event.js';
import type { BaseImage } from '../../model/vm.js';
import { headerOf, statusFailure } from '../http.js';
import { retrying } from '../retry.js';
import { discard } from './body.js';
import { MEDIA_TYPES, type Platform, TITLE } from './manifest.js';
import { type OciReference, isPrivate, ociText } from './reference.js';
import { RETRY_DELAYS_MS, RegistryClient, type RegistryOptions } from './registry.js';

export interface PushedImage {
  /** By digest, so it names these very bytes for ever. */
  readonly reference: OciReference;
  readonly manifestDigest: string;
  /** Of the image file. */
  readonly digest: string;
  readonly bytes: number;
  /** False where the registry had the file already. */
  readonly uploaded: boolean;
}

/** A blob, whose bytes can be read as often as they have to be sent. */
interface Blob {
  readonly digest: string;
  readonly size: number;
  readonly read: () => Readable;
}

const PROGRESS_INTERVAL_MS = 100;
const BUFFER_BYTES = 1024 ** 2;
/** When all is sent, the registry may have to move it to where it stays. */
const COMMIT_MS = 300_000;
const CANCEL_MS = 5_000;

/**
 * Pushes an image that `inspectImage` has found good. Throws `USAGE` for a reference by digest, `IMAGE_UPLOAD`,
 * `FILE_NOT_FOUND` for a file that cannot be read, what `findCredentials` throws, `ABORTED`; an upload that has
 * begun is cancelled then.
 */
export async function pushImage(
  image: BaseImage,
  target: { readonly reference: OciReference; readonly platform: Platform },
  options: Omit<RegistryOptions, 'actions'>,
): Promise<PushedImage> {
  const { reference, platform } = target;
  const { tag } = reference;
  if (tag === null) {
    throw new VmctlError('USAGE', `${ociText(reference)} is a digest, which comes of what is pushed`, {
      hint: `Push to a tag: ${ociText({ ...reference, tag: 'latest', digest: null })}.`,
    });
  }
  const upload = new Upload(reference, options);
  const file = await fileBlob(image.path, options);
  const config = bufferBlob(Buffer.from(JSON.stringify({ architecture: platform.architecture })));
  const uploaded = await upload.blob(file, options.reporter);
  await upload.blob(config, null);
  const manifest = Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: MEDIA_TYPES.manifest,
      artifactType: MEDIA_TYPES.artifact,
      config: { mediaType: MEDIA_TYPES.config, digest: config.digest, size: config.size },
      layers: [
        {
          mediaType: image.format === 'qcow2' ? MEDIA_TYPES.qcow2 : MEDIA_TYPES.raw,
          digest: file.digest,
          size: file.size,
          annotations: { [TITLE]: basename(image.path) },
        },
      ],
    }),
  );
  const manifestDigest = await upload.manifest(tag, manifest);
  return {
    reference: { ...reference, tag: null, digest: manifestDigest },
    manifestDigest,
    digest: file.digest,
    bytes: file.size,
    uploaded,
  };
}

class Upload {
  readonly #client: RegistryClient;
  readonly #options: Omit<RegistryOptions, 'actions'>;
  readonly #shown: string;

  constructor(reference: OciReference, options: Omit<RegistryOptions, 'actions'>) {
    this.#client = new RegistryClient(reference, { ...options, actions: 'pull,push' });
    this.#options = options;
    this.#shown = ociText(reference);
  }

  /** Uploads a blob unless the registry has it; tells which it was. */
  async blob(blob: Blob, reporter: StageReporter | null): Promise<boolean> {
    return this.#attempts(async () => {
      if (await this.#has(blob)) return false;
      const session = await this.#begin();
      try {
        await this.#send(session, blob, reporter);
      } catch (error) {
        await this.#cancel(session);
        throw error;
      }
      return true;
    });
  }

  /** Gives the manifest its tag, and tells its digest. */
  async manifest(tag: string, bytes: Buffer): Promise<string> {
    const url = this.#client.url(`manifests/${tag}`);
    const expected = digestOf(bytes);
    await this.#attempts(async () => {
      const headers = { 'content-type': MEDIA_TYPES.manifest };
      const response = await this.#client.send(url, { method: 'PUT', headers, body: bytes });
      await discard(response);
      if (response.statusCode !== 201) throw this.#refusal(url, response);
      this.#checkDigest(headerOf(response.headers, 'docker-content-digest'), expected);
    });
    return expected;
  }

  async #has({ digest, size }: Blob): Promise<boolean> {
    const url = this.#client.url(`blobs/${digest}`);
    const response = await this.#client.send(url, { method: 'HEAD' });
    await discard(response);
    if (response.statusCode === 404) return false;
    if (response.statusCode !== 200) throw this.#refusal(url, response);
    const length = headerOf(response.headers, 'content-length');
    // Another length is an upload that went wrong once; a new one sets it right.
    return length === null || Number(length) === size;
  }

  async #begin(): Promise<URL> {
    const url = this.#client.url('blobs/uploads/');
    const headers = { 'content-length': '0' };
    const response = await this.#client.send(url, { method: 'POST', headers, followRedirects: false });
    await discard(response);
    if (response.statusCode !== 202) throw this.#refusal(url, response);
    const location = headerOf(response.headers, 'location') ?? '';
    const session = URL.canParse(location, url.href) ? new URL(location, url) : null;
    if (session !== null && isPrivate(session)) return session;
    throw this.#failure(
      `the registry wants the image at ${session?.origin ?? 'no place at all'}, which is not encrypted`,
      'Ask whoever runs that registry: behind a proxy it has to know its own https address.',
    );
  }

  async #send(session: URL, { digest, size, read }: Blob, reporter: StageReporter | null): Promise<void> {
    // As it came: a registry may have signed it, character by character.
    const url = new URL(session);
    url.search += `${url.search === '' ? '?' : '&'}digest=${encodeURIComponent(digest)}`;
    const headers = { 'content-type': 'application/octet-stream', 'content-length': `${size}` };
    const body = () => Readable.from(progressing(read(), { size, reporter }), { objectMode: false });
    const { stallMs } = this.#options;
    const response = await this.#client.send(
      url,
      { method: 'PUT', headers, body, followRedirects: false },
      { ...this.#options, stallMs: Math.max(stallMs, COMMIT_MS) },
    );
    await discard(response);
    if (response.statusCode !== 201) throw this.#refusal(session, response);
    this.#checkDigest(headerOf(response.headers, 'docker-content-digest'), digest);
    reporter?.progress(size, size);
  }

  /**
   * As far as the registry lets it: docker-registry forgets only an upload of which nothing has come yet, and sweeps
   * the others after a week.
   */
  async #cancel(session: URL): Promise<void> {
    const signal = AbortSignal.timeout(CANCEL_MS);
    try {
      const options = { ...this.#options, signal, stallMs: CANCEL_MS };
      await discard(await this.#client.send(session, { method: 'DELETE', followRedirects: false }, options));
    } catch {
      // The failure that led here is the one to tell.
    }
  }

  #checkDigest(got: string | null, expected: string): void {
    if (got === null || !got.startsWith('sha256:') || got === expected) return;
    throw this.#failure(`the registry has stored something else (${got} instead of ${expected})`, 'Try again.');
  }

  /** Several attempts, and the words of a download turned into those of an upload. */
  async #attempts<T>(work: () => Promise<T>): Promise<T> {
    const { signal, reporter, retryDelaysMs: delaysMs = RETRY_DELAYS_MS } = this.#options;
    try {
      return await retrying(work, { signal, reporter, delaysMs });
    } catch (error) {
      if (!(error instanceof VmctlError) || error.code !== 'IMAGE_DOWNLOAD') throw error;
      const { reason } = error.fields;
      throw this.#failure(typeof reason === 'string' ? reason : error.message, error.hint ?? 'Try again.', error);
    }
  }

  #refusal(url: URL, response: Parameters<typeof statusFailure>[1]): Error {
    const { registry, repository } = this.#client.reference;
    const { statusCode } = response;
    if (statusCode === 403 || statusCode === 404 || statusCode === 405) {
      const problem = statusCode === 405 ? 'takes no images' : `does not let you push to ${repository}`;
      return this.#failure(`${registry} ${problem} (HTTP ${statusCode})`, 'Check the name, and who may push there.');
    }
    if (statusCode === 400) {
      return this.#failure(
        'the registry refuses what came (HTTP 400)',
        'Does something write to the image? Try again.',
      );
    }
    return statusFailure(url, response);
  }

  #failure(reason: string, hint: string, cause?: unknown): VmctlError {
    return new VmctlError('IMAGE_UPLOAD', `cannot push to ${this.#shown}: ${reason}`, {
      hint,
      ...(cause === undefined ? {} : { cause }),
      fields: { image: this.#shown, reason },
    });
  }
}

/** The bytes as they are sent, told to the reporter. */
async function* progressing(
  source: Readable,
  { size, reporter }: { readonly size: number; readonly reporter: StageReporter | null },
): AsyncGenerator<Uint8Array, void> {
  let sent = 0;
  let reported = Number.NEGATIVE_INFINITY;
  for await (const chunk of source) {
    const bytes: unknown = chunk;
    if (!(bytes instanceof Uint8Array)) throw new TypeError('a file of bytes was expected');
    yield bytes;
    sent += bytes.length;
    if (reporter === null || performance.now() - reported < PROGRESS_INTERVAL_MS) continue;
    reported = performance.now();
    reporter.progress(sent, size);
  }
}

/** Reads the file once for its digest. */
async function fileBlob(
  path: string,
  { signal, reporter }: Pick<RegistryOptions, 'signal' | 'reporter'>,
): Promise<Blob> {
  const hash = createHash('sha256');
  reporter.status(`reading ${basename(path)}`);
  try {
    const { size } = await stat(path);
    for await (const chunk of progressing(createReadStream(path, { highWaterMark: BUFFER_BYTES, signal }), {
      size,
      reporter: null,
    })) {
      hash.update(chunk);
    }
    // No more than was digested: a file that grows meanwhile would not fit its digest.
    const read = () =>
      createReadStream(path, { highWaterMark: BUFFER_BYTES, ...(size === 0 ? {} : { end: size - 1 }) });
    return { digest: `sha256:${hash.digest('hex')}`, size, read };
  } catch (error) {
    if (signal.aborted) throw new VmctlError('ABORTED', 'interrupted', { cause: error });
    throw new VmctlError('FILE_NOT_FOUND', `cannot read ${path}`, { cause: error, hint: 'Check its permissions.' });
  }
}

function bufferBlob(bytes: Buffer): Blob {
  return { digest: digestOf(bytes), size: bytes.length, read: () => Readable.from([bytes], { objectMode: false }) };
}

function digestOf(bytes: Uint8Array): string {
  return `sha256:${createHash('sha256').update(bytes).digest('hex')}`;
}
