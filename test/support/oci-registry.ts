/**
 * An OCI registry in memory, on a loopback port, that can be told to misbehave. What it does when it behaves is what
 * Debian's docker-registry does: the same tests run against both. One repository, whatever its name.
 */
import { Buffer } from 'node:buffer';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { type IncomingHttpHeaders, type IncomingMessage, type ServerResponse, createServer } from 'node:http';

/** The user of a registry that wants one. */
export const USER = { username: 'me', password: 'open sesame' } as const;
export const REFRESH_TOKEN = 'refresh-1234';

export interface Asked {
  readonly method: string;
  /** With its query. */
  readonly path: string;
  readonly headers: IncomingHttpHeaders;
}

export interface Reply {
  readonly status: number;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string | Uint8Array;
}

export interface OciRegistryOptions {
  /** How it wants to be asked; default for nothing. */
  readonly login?: 'none' | 'basic' | 'token' | 'anonymous token';
  readonly relativeUrls?: boolean;
}

const MANIFEST = 'application/vnd.oci.image.manifest.v1+json';

export const digestOf = (bytes: Uint8Array): string => `sha256:${createHash('sha256').update(bytes).digest('hex')}`;

export class OciRegistry implements AsyncDisposable {
  readonly host: string;
  readonly requests: Asked[] = [];
  readonly blobs = new Map<string, Buffer>();
  /** By tag and by digest. */
  readonly manifests = new Map<string, { readonly bytes: Buffer; readonly mediaType: string }>();
  readonly sessions = new Set<string>();
  /** Asked first; null leaves the answer to the registry. */
  misbehave: (asked: Asked) => Reply | null = () => null;
  /** Changes to the headers of an answer that is otherwise right. */
  headers: (asked: Asked) => Readonly<Record<string, string>> = () => ({});
  /** Seconds; null is not told. */
  tokenLifetime: number | null = 300;
  readonly #tokens = new Map<string, string>();
  readonly #options: OciRegistryOptions;
  readonly #server;

  private constructor(server: ReturnType<typeof createServer>, port: number, options: OciRegistryOptions) {
    this.host = `127.0.0.1:${port}`;
    this.#server = server;
    this.#options = options;
  }

  static async start(options: OciRegistryOptions = {}): Promise<OciRegistry> {
    const server = createServer();
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const address = server.address();
    if (address === null || typeof address === 'string') throw new Error('the server has no port');
    const registry = new OciRegistry(server, address.port, options);
    server.on('request', (request, response) => {
      registry.#serve(request, response).catch(() => request.socket.destroy());
    });
    return registry;
  }

  /** No token that was given is worth anything any more. */
  expireTokens(): void {
    this.#tokens.clear();
  }

  /** Keeps a blob, and describes it. */
  putBlob(content: string | Uint8Array): { readonly digest: string; readonly size: number } {
    const bytes = Buffer.from(content);
    this.blobs.set(digestOf(bytes), bytes);
    return { digest: digestOf(bytes), size: bytes.length };
  }

  /** Keeps a manifest under its digest, and under a tag if there is one; describes it. */
  putManifest(
    document: unknown,
    { tag, mediaType = MANIFEST }: { readonly tag?: string; readonly mediaType?: string } = {},
  ) {
    const bytes = Buffer.from(typeof document === 'string' ? document : JSON.stringify(document));
    const digest = digestOf(bytes);
    for (const name of tag === undefined ? [digest] : [digest, tag]) this.manifests.set(name, { bytes, mediaType });
    return { mediaType, digest, size: bytes.length };
  }

  /** An image of one layer, under a tag. */
  putImage(tag: string, content: string | Uint8Array, layer: object = {}) {
    const config = { mediaType: 'application/vnd.oci.empty.v1+json', ...this.putBlob('{}') };
    const disk = { mediaType: 'application/vnd.cloudnebula.qcow2.layer.v1', ...this.putBlob(content), ...layer };
    return this.putManifest({ schemaVersion: 2, mediaType: MANIFEST, config, layers: [disk] }, { tag });
  }

  /** Uploads that have begun and not ended, as docker-registry tells them too. */
  openUploads(): Promise<readonly string[]> {
    return Promise.resolve([...this.sessions]);
  }

  /** `GET /v2/…` and so on, the paths without their queries. */
  asked(): readonly string[] {
    return this.requests.map(({ method, path }) => `${method} ${path.replace(/\?.*/, '')}`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections();
    this.#server.close();
    await once(this.#server, 'close');
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const asked = { method: request.method ?? '', path: request.url ?? '', headers: request.headers };
    this.requests.push(asked);
    const early = this.misbehave(asked);
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(Buffer.from(chunk));
    const reply = early ?? this.#answer(asked, Buffer.concat(chunks));
    const body = Buffer.from(reply.body ?? '');
    const unmeasured = reply.status === 204 || reply.headers?.['transfer-encoding'] !== undefined;
    const length = unmeasured ? {} : { 'content-length': `${body.length}` };
    response.writeHead(reply.status, { ...length, ...reply.headers, ...(early === null ? this.headers(asked) : {}) });
    response.end(asked.method === 'HEAD' ? undefined : body);
  }

  #answer(asked: Asked, body: Buffer): Reply {
    const url = new URL(asked.path, `http://${this.host}`);
    if (url.pathname === '/token') return this.#token(asked, url, body);
    const [, kind, name = ''] = /^\/v2\/[a-z0-9/]+?\/(manifests|blobs\/uploads|blobs)\/(.*)$/.exec(url.pathname) ?? [];
    const changes = !['GET', 'HEAD'].includes(asked.method);
    const challenge = this.#challenge(asked, changes ? 'push' : 'pull');
    if (challenge !== null) return { status: 401, headers: { 'www-authenticate': challenge }, body: '{"errors":[]}' };
    if (kind === 'manifests') return this.#manifest(asked, name, body);
    if (kind === 'blobs') return this.#blob(asked, name);
    if (kind === 'blobs/uploads') return this.#upload(asked, { url, name }, body);
    return { status: 404 };
  }

  #challenge({ headers }: Asked, action: string): string | null {
    const { login = 'none' } = this.#options;
    const given = headers.authorization ?? '';
    if (login === 'none') return null;
    if (login === 'basic') return given === basic() ? null : 'Basic realm="test"';
    const scope = this.#tokens.get(given.replace(/^Bearer /, ''));
    if (scope?.split(/[:,]/).includes(action) === true) return null;
    return `Bearer realm="http://${this.host}/token",service="test",scope="repository:a/disk:pull"`;
  }

  #token({ method, headers }: Asked, url: URL, body: Buffer): Reply {
    const form = new URLSearchParams(body.toString('utf8'));
    const allowed =
      method === 'POST'
        ? form.get('refresh_token') === REFRESH_TOKEN && form.get('grant_type') === 'refresh_token'
        : this.#options.login === 'anonymous token' || headers.authorization === basic();
    if (!allowed) return { status: 401 };
    const token = randomBytes(8).toString('hex');
    this.#tokens.set(token, (method === 'POST' ? form : url.searchParams).get('scope') ?? '');
    const lifetime = this.tokenLifetime === null ? {} : { expires_in: this.tokenLifetime };
    return {
      status: 200,
      body: JSON.stringify({ [method === 'POST' ? 'access_token' : 'token']: token, ...lifetime }),
    };
  }

  #manifest({ method, headers }: Asked, name: string, body: Buffer): Reply {
    if (method === 'PUT') {
      const { digest } = this.putManifest(body.toString('utf8'), {
        tag: name,
        mediaType: headers['content-type'] ?? '',
      });
      return { status: 201, headers: { 'docker-content-digest': digest } };
    }
    const found = this.manifests.get(name);
    if (found === undefined) return { status: 404, body: '{"errors":[{"code":"MANIFEST_UNKNOWN"}]}' };
    const { bytes, mediaType } = found;
    return {
      status: 200,
      headers: { 'content-type': mediaType, 'docker-content-digest': digestOf(bytes) },
      body: bytes,
    };
  }

  #blob({ headers }: Asked, digest: string): Reply {
    const bytes = this.blobs.get(digest);
    if (bytes === undefined) return { status: 404, body: '{"errors":[{"code":"BLOB_UNKNOWN"}]}' };
    const [, from] = /^bytes=(\d+)-$/.exec(headers.range ?? '') ?? [];
    if (from === undefined) return { status: 200, headers: { etag: `"${digest}"` }, body: bytes };
    if (Number(from) >= bytes.length) return { status: 416, headers: { 'content-range': `bytes */${bytes.length}` } };
    const range = `bytes ${from}-${bytes.length - 1}/${bytes.length}`;
    return { status: 206, headers: { 'content-range': range }, body: bytes.subarray(Number(from)) };
  }

  #upload({ method }: Asked, { url, name }: { readonly url: URL; readonly name: string }, body: Buffer): Reply {
    if (method === 'POST') {
      const session = randomBytes(8).toString('hex');
      this.sessions.add(session);
      const path = `${url.pathname}${session}?_state=a%2Bb`;
      return {
        status: 202,
        headers: { location: this.#options.relativeUrls === true ? path : `http://${this.host}${path}` },
      };
    }
    if (!this.sessions.has(name) || url.searchParams.get('_state') !== 'a+b') return { status: 404 };
    if (method === 'DELETE') {
      this.sessions.delete(name);
      return { status: 204 };
    }
    if (digestOf(body) !== url.searchParams.get('digest')) return { status: 400, body: '{"errors":[]}' };
    this.sessions.delete(name);
    return { status: 201, headers: { 'docker-content-digest': this.putBlob(body).digest } };
  }
}

function basic(): string {
  return `Basic ${Buffer.from(`${USER.username}:${USER.password}`).toString('base64')}`;
}
