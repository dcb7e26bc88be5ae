/**
 * One image in a registry, by the OCI distribution specification 1.1: what a tag stands for now, which blob is the
 * disk, and the blob itself. It keeps nothing; what to fetch and where to put it is for the caller.
 */
import type { Buffer } from 'node:buffer';
import { createHash } from 'node:crypto';
import type { Readable } from 'node:stream';
import type { Dispatcher } from 'undici';
import { VmctlError } from '../../errors.js';
import type { StageContext } from '../../model/event.js';
import {
  type BodyRange,
  type HttpBody,
  type HttpOptions,
  type HttpRequest,
  answeredBy,
  bodyOf,
  downloadError,
  environmentDispatcher,
  headerOf,
  rangeHeaders,
  sendRequest,
  statusFailure,
} from '../http.js';
import { retrying } from '../retry.js';
import { Authentication, type AuthenticationOptions } from './authentication.js';
import { discard, smallBody } from './body.js';
import { parseChallenges } from './challenge.js';
import { type CredentialOptions, findCredentials } from './credentials.js';
import {
  type Descriptor,
  type DiskLayer,
  type ImageManifest,
  type Index,
  MEDIA_TYPES,
  type Platform,
  checkPlatform,
  checksumOf,
  chooseManifest,
  diskLayer,
  parseManifest,
  tellsPlatform,
} from './manifest.js';
import { type OciReference, isLoopback, ociText, registryOrigin } from './reference.js';

export interface RegistryOptions
  extends StageContext,
    HttpOptions,
    Pick<AuthenticationOptions, 'credentials' | 'now'>,
    Partial<Pick<AuthenticationOptions, 'actions'>> {
  /** Milliseconds before the second attempt of a small request, the third, and so on; default 1 s and 4 s. */
  readonly retryDelaysMs?: readonly number[];
}

/** A request whose body can be made again, for the case that it has to be sent again. */
export interface RegistryRequest extends Omit<HttpRequest, 'body'> {
  readonly body?: string | Uint8Array | (() => Readable);
}

export interface OciImage {
  /** Of what the reference stands for: of the index where there is one. This is what `resolveDigest` gives. */
  readonly digest: string;
  /** Of the image's own manifest. */
  readonly manifestDigest: string;
  readonly layer: DiskLayer;
}

/** Pauses before the second attempt of what is small, and the third. */
export const RETRY_DELAYS_MS: readonly number[] = [1000, 4000];
const STALL_MS = 30_000;
const ACCEPT = [MEDIA_TYPES.index, MEDIA_TYPES.manifest, MEDIA_TYPES.dockerIndex, MEDIA_TYPES.dockerManifest].join(
  ', ',
);
const KNOWN_DIGEST = /^(?:sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})$/;
const NO_HEAD: readonly number[] = [405, 501];

/** What a client for a reference is made of. */
export interface RegistryAccess extends StageContext, CredentialOptions {
  /** Milliseconds without a byte that count as a failure; default 30 s. */
  readonly stallMs?: number;
  readonly retryDelaysMs?: readonly number[];
}

/**
 * The usual options: docker's credentials, and the environment's proxies, though not for a registry of this host, which
 * no proxy reaches and whose passwords one would read. Whoever asks for them destroys the dispatcher.
 */
export function registryOptions(reference: OciReference, access: RegistryAccess): RegistryOptions {
  const { environment, signal, reporter, stallMs = STALL_MS, retryDelaysMs = RETRY_DELAYS_MS } = access;
  const proxies = isLoopback(registryOrigin(reference)) ? {} : environment;
  return {
    signal,
    reporter,
    stallMs,
    retryDelaysMs,
    dispatcher: environmentDispatcher(proxies, stallMs),
    credentials: () => findCredentials(reference, access),
  };
}

/** A registry, as far as one reference is concerned. Its token lives as long as it does. */
export class RegistryClient {
  readonly reference: OciReference;
  readonly #options: RegistryOptions;
  readonly #authentication: Authentication;
  readonly #origin: URL;

  constructor(reference: OciReference, options: RegistryOptions) {
    this.reference = reference;
    this.#options = options;
    this.#authentication = new Authentication(reference, { ...options, actions: options.actions ?? 'pull' });
    this.#origin = registryOrigin(reference);
  }

  /**
   * The digest that the reference stands for now: no request for one by digest, else one, or three where the registry
   * wants a token first. Throws `IMAGE_NOT_FOUND`, `IMAGE_DOWNLOAD`, `IMAGE_CHECKSUM`, what `findCredentials` throws,
   * `ABORTED`.
   */
  async resolveDigest(): Promise<string> {
    const { digest, tag } = this.reference;
    if (digest !== null) return digest;
    const url = this.url(`manifests/${tag}`);
    const found = await this.#retrying(async () => {
      const response = await this.send(url, { method: 'HEAD', headers: { accept: ACCEPT } });
      await discard(response);
      if (NO_HEAD.includes(response.statusCode)) return null;
      this.throwUnlessFound(url, response);
      return advertisedDigest(response);
    });
    return found ?? (await this.#manifest(`${tag}`)).digest;
  }

  /**
   * Finds the disk for a platform; every manifest is held against its digest. Throws what `resolveDigest` throws, and
   * `IMAGE_INVALID` for what is no image of a disk.
   */
  async resolveImage(platform: Platform): Promise<OciImage> {
    const shown = ociText(this.reference);
    const top = await this.#manifest(this.reference.digest ?? `${this.reference.tag}`);
    if (top.content.manifests === undefined) {
      return { digest: top.digest, manifestDigest: top.digest, layer: await this.#disk(top.content, platform) };
    }
    const entry = chooseManifest(top.content, platform, shown);
    const { content } = await this.#manifest(entry.digest, entry);
    if (content.manifests !== undefined) {
      throw new VmctlError('IMAGE_INVALID', `${shown} is an index of indexes`, {
        hint: `Name one of its images by its digest, such as ${entry.digest}.`,
      });
    }
    const layer = entry.platform === null ? await this.#disk(content, platform) : diskLayer(content, shown);
    return { digest: top.digest, manifestDigest: entry.digest, layer };
  }

  /**
   * Asks for a blob, or for the rest of it. What a digest names never changes, so the rest is asked for without a
   * validator, and the one that comes back is the digest; the caller holds the whole against `checksumOf` it. One
   * attempt: throws `TransientFailure`, `IMAGE_NOT_FOUND`, `IMAGE_DOWNLOAD`, what `findCredentials` throws, `ABORTED`.
   */
  async openBlob(layer: DiskLayer, { from }: Pick<BodyRange, 'from'>, options: HttpOptions): Promise<HttpBody> {
    const range = { from, validator: null };
    const url = this.url(`blobs/${layer.digest}`);
    const response = await this.send(url, { headers: rangeHeaders(range) }, options);
    if (response.statusCode >= 400 && response.statusCode !== 416) await this.#refuse(url, response);
    const body = bodyOf(url, range, response);
    if (body.totalBytes !== null && body.totalBytes !== layer.bytes) {
      body.body.on('error', () => {}).destroy();
      throw downloadError(url, `it has ${body.totalBytes} bytes, and its manifest says ${layer.bytes}`, {
        hint: 'Ask whoever runs that registry.',
      });
    }
    return { ...body, totalBytes: layer.bytes, validator: JSON.stringify(layer.digest) };
  }

  /** The URL of something in the repository. */
  url(path: string): URL {
    return new URL(`/v2/${this.reference.repository}/${path}`, this.#origin);
  }

  /** Sends one request, and again when the registry wants to know who this is. Its own origin alone learns that. */
  async send(
    url: URL,
    { body, headers = {}, ...request }: RegistryRequest,
    options: HttpOptions = this.#options,
  ): Promise<Dispatcher.ResponseData> {
    const own = url.origin === this.#origin.origin;
    let authorization = own ? await this.#authentication.header() : null;
    for (let asked = false; ; asked = true) {
      const response = await sendRequest(
        url,
        {
          ...request,
          headers: { ...headers, ...(authorization === null ? {} : { authorization }) },
          ...(body === undefined ? {} : { body: typeof body === 'function' ? body() : body }),
        },
        options,
      );
      if (response.statusCode !== 401 || !own) return response;
      // Another server, where a redirect led to, has no say in where passwords go.
      if (answeredBy(url, response).origin !== this.#origin.origin) return response;
      await discard(response);
      if (asked) throw this.#authentication.refusal();
      authorization = await this.#authentication.answer(challengesOf(response), authorization);
    }
  }

  /** Throws what a status other than success means for what the reference names. */
  throwUnlessFound(url: URL, response: Dispatcher.ResponseData): void {
    const { statusCode } = response;
    if (statusCode >= 200 && statusCode < 300) return;
    const { registry, repository } = this.reference;
    const shown = ociText(this.reference);
    if (statusCode === 404) {
      throw new VmctlError('IMAGE_NOT_FOUND', `there is no ${shown}`, {
        hint: `Check the repository and the ${this.reference.digest === null ? 'tag' : 'digest'}.`,
        fields: { image: shown, status: statusCode },
      });
    }
    if (statusCode === 403) {
      throw new VmctlError('IMAGE_DOWNLOAD', `${registry} does not let you at ${repository}`, {
        hint: 'Ask its owner for access, or log in as somebody who has it.',
        fields: { image: shown, status: statusCode, reason: 'access is refused' },
      });
    }
    throw statusFailure(url, response);
  }

  /** Work on small things, with another try after what may pass. */
  #retrying<T>(work: () => Promise<T>): Promise<T> {
    const { signal, reporter, retryDelaysMs: delaysMs = RETRY_DELAYS_MS } = this.#options;
    return retrying(work, { signal, reporter, delaysMs });
  }

  async #refuse(url: URL, response: Dispatcher.ResponseData): Promise<void> {
    await discard(response);
    this.throwUnlessFound(url, response);
  }

  async #disk(content: ImageManifest, platform: Platform): Promise<DiskLayer> {
    const shown = ociText(this.reference);
    // First what cannot be a disk at all: its configuration is of no interest.
    const layer = diskLayer(content, shown);
    if (tellsPlatform(content)) {
      const config = await this.#small(this.url(`blobs/${content.config.digest}`), content.config);
      checkPlatform(config.bytes, platform, shown);
    }
    return layer;
  }

  async #manifest(
    name: string,
    promised: Pick<Descriptor, 'digest' | 'size'> | null = null,
  ): Promise<{ readonly digest: string; readonly content: Index | ImageManifest }> {
    const expected = promised ?? (KNOWN_DIGEST.test(name) ? { digest: name, size: null } : null);
    const { bytes, digest } = await this.#small(this.url(`manifests/${name}`), expected);
    return { digest, content: parseManifest(bytes, ociText(this.reference)) };
  }

  /** Something small, held against the digest and the size that were promised, or the digest that came with it. */
  #small(
    url: URL,
    promised: { readonly digest: string; readonly size: number | null } | null,
  ): Promise<{ readonly bytes: Buffer; readonly digest: string }> {
    return this.#retrying(async () => {
      const response = await this.send(url, { headers: { accept: url.pathname.includes('/blobs/') ? '*/*' : ACCEPT } });
      if (response.statusCode >= 300) await this.#refuse(url, response);
      const bytes = await smallBody(url, response, this.#options);
      const advertised = advertisedDigest(response);
      const digest = promised?.digest ?? advertised ?? digestOf(bytes, 'sha256');
      for (const one of [digest, advertised ?? digest]) this.#verify(bytes, one);
      if (promised?.size !== undefined && promised.size !== null && promised.size !== bytes.length) {
        throw downloadError(url, `it has ${bytes.length} bytes, and ${promised.size} were promised`, {
          hint: 'Ask whoever runs that registry.',
        });
      }
      return { bytes, digest };
    });
  }

  #verify(bytes: Buffer, expected: string): void {
    const got = digestOf(bytes, checksumOf(expected).algorithm);
    if (got === expected) return;
    const shown = ociText(this.reference);
    throw new VmctlError('IMAGE_CHECKSUM', `${this.reference.registry} sends something else for ${shown}`, {
      details: `expected ${expected}\ngot      ${got}`,
      hint: 'Do not trust what came; ask whoever runs that registry.',
      fields: { image: shown, expected, got },
    });
  }
}

function digestOf(bytes: Uint8Array, algorithm: 'sha256' | 'sha512'): string {
  return `${algorithm}:${createHash(algorithm).update(bytes).digest('hex')}`;
}

/** Null where the registry tells none, or one of a kind that is not known. */
function advertisedDigest({ headers }: Dispatcher.ResponseData): string | null {
  const digest = headerOf(headers, 'docker-content-digest');
  return digest !== null && KNOWN_DIGEST.test(digest) ? digest : null;
}

function challengesOf({ headers }: Dispatcher.ResponseData) {
  const fields = headers['www-authenticate'] ?? [];
  return parseChallenges(typeof fields === 'string' ? [fields] : fields);
}
