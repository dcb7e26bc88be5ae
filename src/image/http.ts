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

export interface HttpResponse {
  /** Ends with an error of undici's or Node's when the body does not come completely. */
  readonly body: Readable;
  /** Null where the server does not say. */
  readonly totalBytes: number | null;
  readonly etag: string | null;
  readonly lastModified: string | null;
}

export interface HttpOptions {
  readonly dispatcher: Dispatcher;
  readonly signal: AbortSignal;
  /** Milliseconds with no byte from the server after which it counts as gone. */
  readonly stallMs: number;
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

/** Asks for the body. Throws `TransientFailure`, or `IMAGE_NOT_FOUND` or `IMAGE_DOWNLOAD`. */
export async function openUrl(url: URL, { dispatcher, signal, stallMs }: HttpOptions): Promise<HttpResponse> {
  const target = new URL(url);
  const credentials = authorization(target);
  const redirecting = dispatcher.compose(
    neverBackToHttp(),
    interceptors.redirect({ maxRedirections: MAX_REDIRECTIONS }),
  );
  let response: Dispatcher.ResponseData;
  try {
    response = await request(target, {
      dispatcher: redirecting,
      signal,
      headersTimeout: stallMs,
      bodyTimeout: stallMs,
      headers: { 'accept-encoding': 'identity', 'user-agent': 'vmctl', ...credentials },
    });
  } catch (error) {
    throw networkFailure(url, error, { signal, stallMs });
  }
  if (response.statusCode !== 200) {
    response.body.on('error', () => {}).destroy();
    throw statusFailure(url, response);
  }
  const { headers, body } = response;
  const length = Number(headerOf(headers, 'content-length') ?? Number.NaN);
  return {
    body,
    totalBytes: Number.isSafeInteger(length) ? length : null,
    etag: headerOf(headers, 'etag'),
    lastModified: headerOf(headers, 'last-modified'),
  };
}

/** What an error of the connection means, while it was made or while the body came. */
export function networkFailure(
  url: URL,
  error: unknown,
  { signal, stallMs }: Pick<HttpOptions, 'signal' | 'stallMs'>,
): Error {
  if (signal.aborted) return new VmctlError('ABORTED', 'interrupted', { cause: error });
  if (error instanceof VmctlError) return error;
  const code = errorCode(error);
  const stalled = code === 'UND_ERR_BODY_TIMEOUT' || code === 'UND_ERR_HEADERS_TIMEOUT';
  const words = stalled ? `the server sent nothing for ${stallMs / 1000} s` : wordsOf(error);
  const failure = downloadError(url, words, { cause: error, hint: hintFor(code) });
  return code !== null && TRANSIENT_CODES.includes(code) ? new TransientFailure(failure) : failure;
}

/** `IMAGE_DOWNLOAD` for a URL, with its password left out. */
export function downloadError(
  url: URL,
  reason: string,
  { cause, hint }: { readonly cause?: unknown; readonly hint?: string } = {},
): VmctlError {
  return new VmctlError('IMAGE_DOWNLOAD', `cannot download ${shownUrl(url)}: ${reason}`, {
    ...(cause === undefined ? {} : { cause }),
    hint: hint ?? 'Check the connection and try again.',
    fields: { url: shownUrl(url) },
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

function statusFailure(url: URL, { statusCode: status, headers }: Dispatcher.ResponseData): Error {
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

function headerOf(headers: Dispatcher.ResponseData['headers'], name: string): string | null {
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
