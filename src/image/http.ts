/**
 * One request for an image, on undici: redirects, proxies, deadlines, and what each way to fail means. What happens
 * after a failure is for the caller to decide.
 */
import { Buffer } from 'node:buffer';
import type { Readable } from 'node:stream';
import { type Dispatcher, EnvHttpProxyAgent, interceptors, request } from 'undici';
import { VmctlError } from '../errors.js';
import { errorCode } from '../util/fs.js';
import { shownUrl } from './source.js';

export type Environment = Readonly<Record<string, string | undefined>>;

export interface HttpOptions {
  readonly dispatcher: Dispatcher;
  readonly signal: AbortSignal;
  /** Milliseconds with no byte from the server after which it counts as gone. */
  readonly stallMs: number;
}

export interface HttpRequest {
  /** Default GET. */
  readonly method?: 'GET' | 'HEAD' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
  /** Lower-case names. `authorization` goes to the URL's own origin only. */
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string | Uint8Array | Readable;
  /** Default true. False for a body that must not reach another server; the answer is then the redirect itself. */
  readonly followRedirects?: boolean;
}

/** Which part of a body is wanted. */
export interface BodyRange {
  /** The first byte; 0 is all of it. */
  readonly from: number;
  /** A strong `ETag` or a `Last-Modified` of the same content; null where there is none. */
  readonly validator: string | null;
}

export interface HttpBody {
  /** Ends with an error of undici's or Node's when the body does not come completely. */
  readonly body: Readable;
  /** The place of its first byte in the whole: `from` as it was asked for, or 0 when the server sends everything. */
  readonly from: number;
  /** Of the whole, not of what is left; null where the server does not say. */
  readonly totalBytes: number | null;
  readonly etag: string | null;
  readonly lastModified: string | null;
  /** What to send as `validator` to get the rest of the same content; null where the server gives nothing reliable. */
  readonly validator: string | null;
}

/** A failure that may well not happen again. */
export class TransientFailure extends Error {
  /** What it is when it is not tried again. */
  readonly error: VmctlError;
  /** When the server asks to come back, in milliseconds from now. */
  readonly retryAfterMs: number | null;

  constructor(error: VmctlError, retryAfterMs: number | null = null) {
    super(error.message, { cause: error });
    this.error = error;
    this.retryAfterMs = retryAfterMs;
  }
}

type Headers = Dispatcher.ResponseData['headers'];

/** The server does not give the part that was asked for; what has come already is of no use. */
export class RangeRefused extends Error {}

const MAX_REDIRECTIONS = 5;
const TRANSIENT_STATUS: readonly number[] = [408, 425, 429];
const TRANSIENT_CODES: readonly string[] = [
  'ECONNRESET',
  'ECONNREFUSED',
  'ECONNABORTED',
  'EPIPE',
  'ETIMEDOUT',
  'EAI_AGAIN',
  'ENETDOWN',
  'ENETUNREACH',
  'EHOSTDOWN',
  'EHOSTUNREACH',
  'UND_ERR_SOCKET',
  'UND_ERR_CONNECT_TIMEOUT',
  'UND_ERR_HEADERS_TIMEOUT',
  'UND_ERR_BODY_TIMEOUT',
  'UND_ERR_RES_CONTENT_LENGTH_MISMATCH',
];

/** Goes through the proxies that the environment names: `http_proxy`, `https_proxy`, `no_proxy`, in both cases. */
export function environmentDispatcher(environment: Environment, stallMs: number): Dispatcher {
  const value = (name: string): string => environment[name] ?? environment[name.toUpperCase()] ?? '';
  return new EnvHttpProxyAgent({
    httpProxy: value('http_proxy'),
    httpsProxy: value('https_proxy'),
    noProxy: value('no_proxy'),
    connect: { timeout: stallMs },
  });
}

/**
 * Sends one request and gives the answer, whatever its status; the body has to be read or destroyed. Redirects are
 * followed, credentials stay with the origin that they are for. Throws `TransientFailure`, `IMAGE_DOWNLOAD`, `ABORTED`.
 */
export async function sendRequest(
  url: URL,
  { method = 'GET', headers = {}, body, followRedirects = true }: HttpRequest,
  { dispatcher, signal, stallMs }: HttpOptions,
): Promise<Dispatcher.ResponseData> {
  const target = new URL(url);
  const credentials = authorization(target);
  const redirecting = dispatcher.compose(
    neverBackToHttp(),
    interceptors.redirect({ maxRedirections: followRedirects ? MAX_REDIRECTIONS : 0 }),
  );
  try {
    return await request(target, {
      dispatcher: redirecting,
      method,
      signal,
      headersTimeout: stallMs,
      bodyTimeout: stallMs,
      headers: { 'accept-encoding': 'identity', 'user-agent': 'vmctl', ...credentials, ...headers },
      ...(body === undefined ? {} : { body }),
    });
  } catch (error) {
    throw networkFailure(url, error, { signal, stallMs });
  }
}

/** Where an answer comes from: the last of the redirects, else the URL that was asked. */
export function answeredBy(url: URL, response: Dispatcher.ResponseData): URL {
  // Undici's type says that it is always there; it is where redirects are followed.
  const context: unknown = response.context;
  if (typeof context !== 'object' || context === null || !('history' in context)) return url;
  const last: unknown = Array.isArray(context.history) ? context.history.at(-1) : null;
  return last instanceof URL ? last : url;
}

/** Asks for a body, or for the rest of one. Throws `TransientFailure`, `IMAGE_NOT_FOUND`, `IMAGE_DOWNLOAD`, `ABORTED`. */
export async function openUrl(url: URL, range: BodyRange, options: HttpOptions): Promise<HttpBody> {
  return bodyOf(url, range, await sendRequest(url, { headers: rangeHeaders(range) }, options));
}

/** Asks for what is missing, of the same content only (RFC 9110, sections 13.1.5 and 14.2). */
export function rangeHeaders({ from, validator }: BodyRange): Readonly<Record<string, string>> {
  if (from === 0) return {};
  return { range: `bytes=${from}-`, ...(validator === null ? {} : { 'if-range': validator }) };
}

/** What an answer to a request with `rangeHeaders` brings. Throws what its status means where that is no success. */
export function bodyOf(url: URL, range: BodyRange, response: Dispatcher.ResponseData): HttpBody {
  const { headers, body, statusCode } = response;
  const facts = {
    body,
    etag: headerOf(headers, 'etag'),
    lastModified: headerOf(headers, 'last-modified'),
    validator: validatorOf(headers),
  };
  if (statusCode === 200) return { ...facts, from: 0, totalBytes: lengthOf(headers) };
  try {
    if (range.from === 0) throw statusFailure(url, response);
    const part = contentRange(headerOf(headers, 'content-range'));
    if (statusCode === 206 && part?.from === range.from)
      return { ...facts, from: part.from, totalBytes: part.totalBytes };
    if (statusCode === 206 || statusCode === 416) throw new RangeRefused();
    throw statusFailure(url, response);
  } catch (error) {
    body.on('error', () => {}).destroy();
    throw error;
  }
}

function lengthOf(headers: Headers): number | null {
  const length = headerOf(headers, 'content-length');
  return length !== null && /^\d{1,15}$/.test(length) ? Number(length) : null;
}

/** `bytes 200-999/1000` (RFC 9110, section 14.4); null for anything else. */
function contentRange(value: string | null): { readonly from: number; readonly totalBytes: number | null } | null {
  const [, from, total] = /^bytes (\d{1,15})-\d{1,15}\/(\d{1,15}|\*)$/.exec(value ?? '') ?? [];
  if (from === undefined || total === undefined) return null;
  return { from: Number(from), totalBytes: total === '*' ? null : Number(total) };
}

/**
 * A strong `ETag`, else a `Last-Modified` that is at least a second older than the answer: younger ones may stand for
 * two versions (RFC 9110, sections 8.8.2.2 and 13.1.5).
 */
function validatorOf(headers: Headers): string | null {
  const etag = headerOf(headers, 'etag');
  if (etag !== null && /^"[^"]*"$/.test(etag)) return etag;
  const [modified, date] = [headerOf(headers, 'last-modified'), headerOf(headers, 'date')];
  if (modified === null || date === null) return null;
  return Date.parse(date) - Date.parse(modified) >= 1000 ? modified : null;
}

/** What an error of the connection means, while it was made or while the body came. */
export function networkFailure(
  url: URL | string,
  error: unknown,
  { signal, stallMs }: Pick<HttpOptions, 'signal' | 'stallMs'>,
): Error {
  if (signal.aborted) return new VmctlError('ABORTED', 'interrupted', { cause: error });
  if (error instanceof VmctlError || error instanceof TransientFailure) return error;
  const code = errorCode(error);
  const stalled = code === 'UND_ERR_BODY_TIMEOUT' || code === 'UND_ERR_HEADERS_TIMEOUT';
  const words = stalled ? `the server sent nothing for ${stallMs / 1000} s` : wordsOf(error);
  const failure = downloadError(url, words, { cause: error, hint: hintFor(code) });
  return code !== null && TRANSIENT_CODES.includes(code) ? new TransientFailure(failure) : failure;
}

/** `IMAGE_DOWNLOAD` for a URL, with its password left out, or for what is shown instead of one. */
export function downloadError(
  url: URL | string,
  reason: string,
  { cause, hint }: { readonly cause?: unknown; readonly hint?: string } = {},
): VmctlError {
  const shown = typeof url === 'string' ? url : shownUrl(url);
  return new VmctlError('IMAGE_DOWNLOAD', `cannot download ${shown}: ${reason}`, {
    ...(cause === undefined ? {} : { cause }),
    hint: hint ?? 'Check the connection and try again.',
    fields: { url: shown, reason },
  });
}

/** A redirect must not take away the protection that the URL promised. Made anew for each request. */
function neverBackToHttp(): Dispatcher.DispatcherComposeInterceptor {
  let secureOrigin: string | null = null;
  return (dispatch) => (options, handler) => {
    const { protocol, origin } = new URL(String(options.origin));
    if (protocol === 'https:') secureOrigin = origin;
    else if (secureOrigin !== null) {
      throw new VmctlError('IMAGE_DOWNLOAD', `${secureOrigin} redirects to ${origin}, which is not encrypted`, {
        hint: 'Use the URL of a server that stays with https.',
        fields: { url: origin },
      });
    }
    return dispatch(options, handler);
  };
}

/** Takes user and password out of the URL; they go to its own origin only. */
function authorization(url: URL): Readonly<Record<string, string>> {
  const [user, password] = [decodeURIComponent(url.username), decodeURIComponent(url.password)];
  url.username = '';
  url.password = '';
  if (user === '' && password === '') return {};
  return { authorization: `Basic ${Buffer.from(`${user}:${password}`).toString('base64')}` };
}

/** What a status other than success means, as an error. */
export function statusFailure(
  url: URL,
  { statusCode: status, headers }: Pick<Dispatcher.ResponseData, 'statusCode' | 'headers'>,
): Error {
  if (status === 404 || status === 410) {
    return new VmctlError('IMAGE_NOT_FOUND', `there is no image at ${shownUrl(url)} (HTTP ${status})`, {
      hint: 'Check the URL; images are often moved when a new release comes out.',
      fields: { url: shownUrl(url), status },
    });
  }
  const redirected = status >= 300 && status < 400 && headerOf(headers, 'location') !== null;
  const reason = redirected ? `more than ${MAX_REDIRECTIONS} redirects` : `the server answered with HTTP ${status}`;
  const denied = status === 401 || status === 403 || status === 407;
  const error = downloadError(url, reason, {
    hint: denied ? 'The server wants you to log in, or refuses you.' : 'Check the URL, or try again later.',
  });
  if (status < 500 && !TRANSIENT_STATUS.includes(status)) return error;
  return new TransientFailure(error, retryAfter(headerOf(headers, 'retry-after')));
}

/** `Retry-After` in seconds or as a date (RFC 9110, section 10.2.3); null when there is none that can be read. */
function retryAfter(value: string | null): number | null {
  if (value === null) return null;
  if (/^\d+$/.test(value)) return Number(value) * 1000;
  const date = Date.parse(value);
  return Number.isNaN(date) ? null : Math.max(0, date - Date.now());
}

/** The first value of a header, whose name is in lower case. */
export function headerOf(headers: Headers, name: string): string | null {
  const value = headers[name];
  return (typeof value === 'string' ? value : value?.[0]) ?? null;
}

function wordsOf(error: unknown): string {
  // What several addresses of one host gave is a bundle with an empty message.
  if (error instanceof AggregateError) return error.errors.map(wordsOf).join('; ');
  return error instanceof Error ? error.message : String(error);
}

function hintFor(code: string | null): string {
  if (code === 'ENOTFOUND') return 'Check the name of the server, and that this host has a connection.';
  if (code !== null && /CERT|SIGNATURE|TLS|SSL|ISSUER/.test(code)) {
    return 'The certificate of the server is not trusted. Set NODE_EXTRA_CA_CERTS if your network has its own.';
  }
  return 'Check the connection and try again; a proxy is taken from http_proxy and https_proxy.';
}
