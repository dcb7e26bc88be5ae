/** What the client does with a registry that misbehaves. */
import { Buffer } from 'node:buffer';
import { createHash } from 'node:crypto';
import { text } from 'node:stream/consumers';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { Credentials } from '../../../src/image/oci/credentials.js';
import { TransientFailure } from '../../../src/image/http.js';
import { registryOptions as usualOptions } from '../../../src/image/oci/registry.js';
import { parseOciReference } from '../../../src/image/oci/reference.js';
import { silentReporter } from '../../../src/model/event.js';
import { CountingAgent, client, login, registryOptions } from '../../support/oci-client.js';
import {
  type Asked,
  OciRegistry,
  type OciRegistryOptions,
  REFRESH_TOKEN,
  digestOf,
} from '../../support/oci-registry.js';
import { failure } from '../../support/failure.js';

const AMD64 = { architecture: 'amd64' };
const MANIFEST_PATH = '/v2/a/disk/manifests/1';

let agent: CountingAgent;
const started: AsyncDisposable[] = [];

beforeEach(() => {
  agent = new CountingAgent();
});

afterEach(async () => {
  await agent[Symbol.asyncDispose]();
  for (const one of started.splice(0)) await one[Symbol.asyncDispose]();
});

async function start(options: OciRegistryOptions = {}): Promise<OciRegistry> {
  const registry = await OciRegistry.start(options);
  started.push(registry);
  return registry;
}

const known = () => Promise.resolve(login);
const pulling = (registry: OciRegistry, credentials: () => Promise<Credentials | null> = () => Promise.resolve(null)) =>
  client(`oci://${registry.host}/a/disk:1`, agent, { credentials });
const authorizations = (registry: OciRegistry): readonly (string | undefined)[] =>
  registry.requests.map(({ headers }) => headers.authorization);
/** Says no to the first so many requests for a path. */
function first(count: number, path: string, reply: { status: number; headers?: Record<string, string> }) {
  let left = count;
  return (asked: Asked) => (asked.path === path && left-- > 0 ? reply : null);
}

describe('a token', () => {
  test('is got once, for what the client is going to do, with the password for the token server alone', async () => {
    const registry = await start({ login: 'token' });
    registry.putImage('1', 'disk');
    const asking = pulling(registry, known);
    await asking.resolveDigest();
    await asking.resolveImage(AMD64);
    expect(registry.asked()).toEqual([
      `HEAD ${MANIFEST_PATH}`,
      'GET /token',
      `HEAD ${MANIFEST_PATH}`,
      `GET ${MANIFEST_PATH}`,
    ]);
    const [before, toTokens, ...after] = authorizations(registry);
    expect([before, toTokens]).toEqual([undefined, expect.stringMatching(/^Basic /)]);
    expect(after).toEqual([expect.stringMatching(/^Bearer /), expect.stringMatching(/^Bearer /)]);
    expect(Object.fromEntries(new URL(registry.requests[1]?.path ?? '', 'http://x').searchParams)).toEqual({
      service: 'test',
      scope: 'repository:a/disk:pull',
      client_id: 'vmctl',
    });
  });

  test('is got without a password where anybody may have one', async () => {
    const registry = await start({ login: 'anonymous token' });
    registry.putImage('1', 'disk');
    await pulling(registry).resolveDigest();
    expect(authorizations(registry).slice(0, 2)).toEqual([undefined, undefined]);
  });

  test('is got for a refresh token, which is in the body of a POST alone', async () => {
    const registry = await start({ login: 'token' });
    registry.putImage('1', 'disk');
    await pulling(registry, async () => ({ kind: 'refresh-token', token: REFRESH_TOKEN, from: 'x' })).resolveDigest();
    expect(registry.asked()).toContain('POST /token');
    expect(JSON.stringify(registry.requests)).not.toContain(REFRESH_TOKEN);
  });

  test('that has expired in the middle is replaced, and the work goes on', async () => {
    const registry = await start({ login: 'token' });
    registry.putImage('1', 'the disk');
    const asking = pulling(registry, known);
    const { layer } = await asking.resolveImage(AMD64);
    registry.expireTokens();
    registry.requests.length = 0;
    const { body } = await asking.openBlob(layer, { from: 4 }, registryOptions(agent));
    expect(await text(body)).toBe('disk');
    const blob = `GET /v2/a/disk/blobs/${layer.digest}`;
    expect(registry.asked()).toEqual([blob, 'GET /token', blob]);
  });

  test.each([
    ['with the time that was told', 300, 300],
    ['after a minute where none was told', null, 60],
  ])('is renewed %s, before the registry refuses it', async (_when, told, seconds) => {
    const registry = await start({ login: 'token' });
    registry.tokenLifetime = told;
    registry.putImage('1', 'disk');
    let now = 0;
    const asking = client(`oci://${registry.host}/a/disk:1`, agent, { credentials: known, now: () => now });
    await asking.resolveDigest();
    registry.requests.length = 0;
    now = seconds * 1000 * 0.89;
    await asking.resolveDigest();
    expect(registry.asked()).toEqual([`HEAD ${MANIFEST_PATH}`]);
    now = seconds * 1000 * 0.91;
    await asking.resolveDigest();
    expect(registry.asked().slice(1)).toEqual(['GET /token', `HEAD ${MANIFEST_PATH}`]);
  });

  test('that is refused for ever is asked for twice, and then the error says how to log in', async () => {
    const registry = await start({ login: 'token' });
    const challenge = `Bearer realm="http://${registry.host}/token"`;
    registry.misbehave = ({ path }) =>
      path.startsWith('/v2/') ? { status: 401, headers: { 'www-authenticate': challenge } } : null;
    const error = await failure(pulling(registry, known).resolveDigest());
    expect(error.message).toContain('refuses the credentials from the test');
    expect(error.hint).toBe(`Log in again: docker login ${registry.host}.`);
    expect(registry.asked()).toEqual([`HEAD ${MANIFEST_PATH}`, 'GET /token', `HEAD ${MANIFEST_PATH}`]);
  });

  test('is not asked for where everybody could read the password', async () => {
    const registry = await start();
    registry.misbehave = () => ({
      status: 401,
      headers: { 'www-authenticate': 'Bearer realm="http://tokens.example.test/token",service="x"' },
    });
    const error = await failure(pulling(registry, known).resolveDigest());
    expect(error.message).toBe(`${registry.host} wants a login at http://tokens.example.test, which is not encrypted`);
    expect(agent.asked).toEqual([`HEAD ${MANIFEST_PATH}`]);
  });

  test.each([
    ['no JSON', '<html>'],
    ['no token', '{}'],
    ['a token that would break a header', JSON.stringify({ token: 'a\r\nb' })],
    ['a lifetime of nothing', JSON.stringify({ token: 'a', expires_in: 0 })],
  ])('is not taken from an answer with %s', async (_what, body) => {
    const registry = await start({ login: 'token' });
    registry.misbehave = ({ path }) => (path.startsWith('/token') ? { status: 200, body } : null);
    const error = await failure(pulling(registry, known).resolveDigest());
    expect(error).toMatchObject({
      code: 'IMAGE_DOWNLOAD',
      message: expect.stringContaining('the answer holds no token'),
    });
  });

  test('server that cannot just now is asked again', async () => {
    const registry = await start({ login: 'token' });
    registry.putImage('1', 'disk');
    let busy = 1;
    registry.misbehave = ({ path }) => (path.startsWith('/token') && busy-- > 0 ? { status: 503 } : null);
    await pulling(registry, known).resolveDigest();
    expect(registry.asked().filter((one) => one === 'GET /token')).toHaveLength(2);
  });
});

describe('a password', () => {
  test('stays with the registry when it redirects to another server', async () => {
    const [registry, other] = [await start({ login: 'basic' }), await start()];
    registry.putImage('1', 'disk');
    other.putBlob('disk');
    registry.misbehave = ({ path, headers }) =>
      path.includes('/blobs/') && headers.authorization !== undefined
        ? { status: 307, headers: { location: `http://${other.host}${path}` } }
        : null;
    const asking = pulling(registry, known);
    const { layer } = await asking.resolveImage(AMD64);
    const { body, from } = await asking.openBlob(layer, { from: 1 }, registryOptions(agent));
    expect({ rest: await text(body), from }).toEqual({ rest: 'isk', from: 1 });
    expect(authorizations(other)).toEqual([undefined]);
    expect(other.requests[0]?.headers.range).toBe('bytes=1-');
  });

  test('does not go where another server wants it', async () => {
    const [registry, other] = [await start({ login: 'basic' }), await start()];
    registry.putImage('1', 'disk');
    registry.misbehave = ({ path, headers }) =>
      path.includes('/blobs/') && headers.authorization !== undefined
        ? { status: 307, headers: { location: `http://${other.host}${path}` } }
        : null;
    other.misbehave = () => ({
      status: 401,
      headers: { 'www-authenticate': `Bearer realm="http://${other.host}/token"` },
    });
    const asking = pulling(registry, known);
    const { layer } = await asking.resolveImage(AMD64);
    const error = await failure(asking.openBlob(layer, { from: 0 }, registryOptions(agent)));
    expect(error.message).toContain('HTTP 401');
    expect(other.asked()).toEqual([`GET /v2/a/disk/blobs/${layer.digest}`]);
    expect(authorizations(other)).toEqual([undefined]);
  });

  test('in the body of a request for a token follows no redirect', async () => {
    const [registry, other] = [await start({ login: 'token' }), await start()];
    registry.misbehave = ({ path }) =>
      path === '/token' ? { status: 307, headers: { location: `http://${other.host}/token` } } : null;
    const refresh = async () => ({ kind: 'refresh-token', token: REFRESH_TOKEN, from: 'x' }) as const;
    expect((await failure(pulling(registry, refresh).resolveDigest())).code).toBe('IMAGE_DOWNLOAD');
    expect(other.requests).toEqual([]);
  });

  test('does not go through a proxy to a registry of this host', async () => {
    const registry = await start({ login: 'basic' });
    registry.putImage('1', 'disk');
    const [reference, environment] = [`oci://${registry.host}/a/disk:1`, { http_proxy: 'http://127.0.0.1:1' }];
    const signal = new AbortController().signal;
    const access = { environment, home: '/nowhere', signal, reporter: silentReporter };
    const { dispatcher } = usualOptions(parseOciReference(reference), access);
    await client(reference, agent, { dispatcher, credentials: known }).resolveDigest();
    await dispatcher.destroy();
    expect(registry.asked()).toHaveLength(2);
  });
});

describe('a digest', () => {
  test('that was asked for costs no request', async () => {
    const registry = await start();
    const digest = digestOf(Buffer.from('x'));
    expect(await client(`oci://${registry.host}/a/disk@${digest}`, agent).resolveDigest()).toBe(digest);
    expect(agent.asked).toEqual([]);
  });

  test('is computed where the registry tells none, or does not answer HEAD', async () => {
    const registry = await start();
    const { digest } = registry.putImage('1', 'disk');
    registry.headers = () => ({ 'docker-content-digest': 'what?' });
    expect(await pulling(registry).resolveDigest()).toBe(digest);
    registry.misbehave = ({ method }) => (method === 'HEAD' ? { status: 405 } : null);
    expect(await pulling(registry).resolveDigest()).toBe(digest);
  });

  test('that the manifest does not have is told, with both', async () => {
    const registry = await start();
    const { digest } = registry.putImage('1', 'disk');
    const other = `sha256:${'0'.repeat(64)}`;
    registry.headers = () => ({ 'docker-content-digest': other });
    const error = await failure(pulling(registry).resolveImage(AMD64));
    expect(error).toMatchObject({ code: 'IMAGE_CHECKSUM', details: `expected ${other}\ngot      ${digest}` });
  });

  test('may be of the longer kind', async () => {
    const registry = await start();
    registry.putImage('1', 'disk');
    const manifest = registry.manifests.get('1');
    if (manifest === undefined) throw new Error('there is none');
    const digest = `sha512:${createHash('sha512').update(manifest.bytes).digest('hex')}`;
    registry.manifests.set(digest, manifest);
    const image = await client(`oci://${registry.host}/a/disk@${digest}`, agent).resolveImage(AMD64);
    expect(image).toMatchObject({ digest, manifestDigest: digest });
  });

  test('that was asked for is not what the registry may replace', async () => {
    const registry = await start();
    registry.putImage('1', 'disk');
    const wanted = `sha256:${'0'.repeat(64)}`;
    const evil = registry.manifests.get('1');
    if (evil === undefined) throw new Error('there is none');
    registry.manifests.set(wanted, evil);
    const error = await failure(client(`oci://${registry.host}/a/disk@${wanted}`, agent).resolveImage(AMD64));
    expect(error.code).toBe('IMAGE_CHECKSUM');
  });
});

describe('an index', () => {
  const platform = (architecture: string, more: object = {}) => ({ platform: { os: 'linux', architecture, ...more } });

  test('leads to the image of this host, and its digest is that of the index', async () => {
    const registry = await start();
    const [arm, amd] = [registry.putImage('arm', 'arm disk'), registry.putImage('amd', 'amd disk')];
    const manifests = [
      { ...arm, ...platform('arm64', { variant: 'v8' }) },
      { ...amd, ...platform('amd64') },
      { ...amd, digest: digestOf(Buffer.from('x')), platform: { os: 'unknown', architecture: 'unknown' } },
    ];
    const mediaType = 'application/vnd.oci.image.index.v1+json';
    const { digest } = registry.putManifest({ schemaVersion: 2, mediaType, manifests }, { tag: '1', mediaType });
    const image = await pulling(registry).resolveImage(AMD64);
    expect(image).toMatchObject({
      digest,
      manifestDigest: amd.digest,
      layer: { digest: digestOf(Buffer.from('amd disk')) },
    });
    expect(await pulling(registry).resolveDigest()).toBe(digest);
    const other = await pulling(registry).resolveImage({ architecture: 'arm64' });
    expect(other.manifestDigest).toBe(arm.digest);
    const none = await failure(pulling(registry).resolveImage({ architecture: 'riscv64' }));
    expect(none).toMatchObject({
      code: 'IMAGE_NOT_FOUND',
      message: `oci://${registry.host}/a/disk:1 has no image for linux/riscv64`,
      details: `linux/arm64/v8  ${arm.digest}\nlinux/amd64  ${amd.digest}`,
      hint: `Choose one by its digest: oci://${registry.host}/a/disk@sha256:….`,
    });
  });

  test('that lies about the size of its image is not believed', async () => {
    const registry = await start();
    const image = { ...registry.putImage('x', 'disk'), size: 7, ...platform('amd64') };
    registry.putManifest({ schemaVersion: 2, manifests: [image] }, { tag: '1' });
    const error = await failure(pulling(registry).resolveImage(AMD64));
    expect(error.message).toMatch(/it has \d+ bytes, and 7 were promised$/);
  });

  test('of indexes is not followed', async () => {
    const registry = await start();
    const inner = registry.putManifest({ schemaVersion: 2, manifests: [] });
    registry.putManifest({ schemaVersion: 2, manifests: [{ ...inner, ...platform('amd64') }] }, { tag: '1' });
    expect((await failure(pulling(registry).resolveImage(AMD64))).message).toContain('is an index of indexes');
  });
});

describe('a registry', () => {
  test('that wants a pause is given it, and asked again', async () => {
    const registry = await start();
    registry.putImage('1', 'disk');
    registry.misbehave = first(2, MANIFEST_PATH, { status: 429, headers: { 'retry-after': '0' } });
    await pulling(registry).resolveDigest();
    expect(registry.asked()).toHaveLength(3);
  });

  test('that wants too long a pause is not waited for', async () => {
    const registry = await start();
    registry.misbehave = () => ({ status: 429, headers: { 'retry-after': '3600' } });
    const error = await failure(pulling(registry).resolveDigest());
    expect(error.message).toContain('wants no request for 3600 s');
    expect(registry.asked()).toHaveLength(1);
  });

  test('that refuses access says so, and is not asked again', async () => {
    const registry = await start();
    registry.misbehave = () => ({ status: 403 });
    const error = await failure(pulling(registry).resolveDigest());
    expect(error).toMatchObject({ code: 'IMAGE_DOWNLOAD', message: `${registry.host} does not let you at a/disk` });
    expect(registry.asked()).toHaveLength(1);
  });

  test('that redirects without end is left after five', async () => {
    const registry = await start();
    registry.misbehave = ({ path }) => ({ status: 307, headers: { location: `${path}x` } });
    const error = await failure(pulling(registry).resolveDigest());
    expect(error.message).toContain('more than 5 redirects');
    expect(registry.asked()).toHaveLength(6);
  });

  test('that redirects to where it was asked is left', async () => {
    const registry = await start();
    registry.misbehave = ({ path }) => ({ status: 307, headers: { location: path } });
    const error = await failure(pulling(registry).resolveDigest());
    expect(error).toMatchObject({ code: 'IMAGE_DOWNLOAD', message: expect.stringContaining('Redirect loop') });
    expect(registry.asked()).toHaveLength(1);
  });

  test.each([
    ['says so', {}],
    ['does not say so', { 'transfer-encoding': 'chunked' }],
  ])('that sends a manifest without end is left, where it %s', async (_how, headers) => {
    const registry = await start();
    registry.misbehave = () => ({ status: 200, headers, body: Buffer.alloc(5 * 1024 ** 2, ' ') });
    const error = await failure(pulling(registry).resolveImage(AMD64));
    expect(error.message).toContain('the answer is larger than the 4 MiB that it may have');
  });

  test('whose blob has another size than the manifest says is told so before anything comes', async () => {
    const registry = await start();
    registry.putImage('1', 'disk', { size: 5 });
    const asking = pulling(registry);
    const { layer } = await asking.resolveImage(AMD64);
    const error = await failure(asking.openBlob(layer, { from: 0 }, registryOptions(agent)));
    expect(error.message).toContain('it has 4 bytes, and its manifest says 5');
  });

  test('whose blob cannot be had just now leaves it to the caller to ask again', async () => {
    const registry = await start();
    registry.putImage('1', 'disk');
    const asking = pulling(registry);
    const { layer } = await asking.resolveImage(AMD64);
    registry.misbehave = () => ({ status: 503, headers: { 'retry-after': '7' } });
    const opening = asking.openBlob(layer, { from: 0 }, registryOptions(agent));
    await expect(opening).rejects.toThrow(TransientFailure);
    await expect(opening).rejects.toMatchObject({ retryAfterMs: 7000 });
  });

  test('that sends all instead of the rest is understood', async () => {
    const registry = await start();
    registry.putImage('1', 'disk');
    const asking = pulling(registry);
    const { layer } = await asking.resolveImage(AMD64);
    registry.misbehave = () => ({ status: 200, body: 'disk' });
    const { body, from, totalBytes } = await asking.openBlob(layer, { from: 2 }, registryOptions(agent));
    expect({ from, totalBytes, whole: await text(body) }).toEqual({ from: 0, totalBytes: 4, whole: 'disk' });
  });

  test('is left alone when the user interrupts', async () => {
    const registry = await start();
    const controller = new AbortController();
    registry.misbehave = () => {
      controller.abort();
      return { status: 503 };
    };
    const asking = client(`oci://${registry.host}/a/disk:1`, agent, {
      signal: controller.signal,
      retryDelaysMs: [60_000],
    });
    expect((await failure(asking.resolveDigest())).code).toBe('ABORTED');
  });
});
