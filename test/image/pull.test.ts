/** When the place that an image comes from is asked, and for what. */
import { Buffer } from 'node:buffer';
import { createHash, randomBytes } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import * as index from '../../src/image/cache-index.js';
import { markDamaged } from '../../src/image/cache-store.js';
import { type FetchOptions, fetchImage } from '../../src/image/cache.js';
import { SharedWork } from '../../src/image/shared-work.js';
import { silentReporter } from '../../src/model/event.js';
import type { ChecksumSource } from '../../src/model/spec.js';
import { spoilImage } from '../support/cached-image.js';
import { type TemporaryDirectory, temporaryDirectory } from '../support/fixtures.js';
import { type HttpServer, startHttpServer } from '../support/http-server.js';

vi.mock('../../src/image/cache-index.js', { spy: true });

const older = Buffer.concat([Buffer.from([0, 1, 2, 3]), randomBytes(65_532)]);
const newer = Buffer.concat([Buffer.from([0, 1, 2, 3]), randomBytes(65_532)]);
const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');
const sha512 = (bytes: Uint8Array): string => createHash('sha512').update(bytes).digest('hex');

let folder: TemporaryDirectory;
let images: string;
let server: HttpServer;

beforeEach(async () => {
  folder = await temporaryDirectory();
  images = join(folder.path, 'images');
  server = await startHttpServer();
});

afterEach(async () => {
  await server[Symbol.asyncDispose]();
  await folder[Symbol.asyncDispose]();
  vi.useRealTimers();
});

type Wanted = Pick<FetchOptions, 'pull'> & { readonly checksum?: ChecksumSource; readonly path?: string };

async function pathOf({ pull, checksum, path = '/disk.raw' }: Wanted = {}): Promise<string> {
  const options = {
    directory: images,
    command: 'vmctl up',
    signal: new AbortController().signal,
    reporter: silentReporter,
    retryDelaysMs: [1, 1],
    shared: new SharedWork<string>(),
    ...(pull === undefined ? {} : { pull }),
  };
  return fetchImage({ url: server.url(path), checksum: checksum ?? null }, options);
}

/** The digest of what is in the cache. */
const fetched = async (wanted: Wanted = {}): Promise<string> => sha256(await readFile(await pathOf(wanted)));
const asked = (): readonly string[] => server.requests.map(({ method, path }) => `${method} ${path}`);

describe('an image that may be asked for', () => {
  test('never is an error where it is not in the cache, and asks nobody', async () => {
    await expect(pathOf({ pull: 'never' })).rejects.toMatchObject({
      code: 'IMAGE_NOT_FOUND',
      message: `the image ${server.url('/disk.raw')} is not in the cache, and nothing may be downloaded`,
    });
    expect(asked()).toEqual([]);
  });

  test('never is taken from the cache', async () => {
    server.serve('/disk.raw', { body: older }, { body: newer });
    await fetched();
    expect(await fetched({ pull: 'never' })).toBe(sha256(older));
    expect(asked()).toEqual(['GET /disk.raw']);
  });

  test.each([
    ['by its ETag', { etag: 'W/"v1"' }],
    ['by its date', { 'last-modified': 'Sun, 22 Nov 2026 00:00:00 GMT' }],
  ])('always costs one request while it has not changed, %s', async (_, headers) => {
    server.serve('/disk.raw', { body: older, headers });
    const path = await pathOf();
    expect(await pathOf({ pull: 'always' })).toBe(path);
    expect(asked()).toEqual(['GET /disk.raw', 'HEAD /disk.raw']);
  });

  test('always costs one request where the server says "not modified"', async () => {
    server.serve('/disk.raw', { body: older, headers: { etag: '"v1"' } }, { status: 304 });
    const path = await pathOf();
    expect(await pathOf({ pull: 'always' })).toBe(path);
    expect(server.requests[1]?.headers['if-none-match']).toBe('"v1"');
  });

  test('always is fetched when it has changed, and the older one stays for the disks that stand on it', async () => {
    server.serve('/disk.raw', { body: older, headers: { etag: '"v1"' } }, { body: newer, headers: { etag: '"v2"' } });
    const before = await pathOf();
    expect(await fetched({ pull: 'always' })).toBe(sha256(newer));
    expect(sha256(await readFile(before))).toBe(sha256(older));
    expect(await fetched()).toBe(sha256(newer));
    expect(asked()).toEqual(['GET /disk.raw', 'HEAD /disk.raw', 'GET /disk.raw']);
  });

  test('always is fetched where the server cannot tell, and kept once', async () => {
    server.serve('/disk.raw', { body: older });
    const path = await pathOf();
    expect(await pathOf({ pull: 'always' })).toBe(path);
    expect(asked()).toEqual(['GET /disk.raw', 'HEAD /disk.raw', 'GET /disk.raw']);
    expect((await index.listCachedImages(images))[0]?.record.origins).toHaveLength(1);
  });

  test('always is not asked for where a checksum says what it is', async () => {
    server.serve('/disk.raw', { body: older });
    const checksum = { algorithm: 'sha256' as const, digest: sha256(older) };
    await fetched({ checksum });
    expect(await fetched({ checksum, pull: 'always' })).toBe(sha256(older));
    expect(asked()).toEqual(['GET /disk.raw']);
  });
});

describe('an image that another process has stored just after the cache was looked at', () => {
  async function arriveAfterLook(arrival: () => Promise<unknown>): Promise<void> {
    const actual = await vi.importActual<typeof index>('../../src/image/cache-index.js');
    vi.mocked(index.listCachedImages).mockImplementationOnce(async (directory) => {
      const seen = await actual.listCachedImages(directory);
      await arrival();
      return seen;
    });
  }

  test('is not asked for again', async () => {
    server.serve('/disk.raw', { body: older, headers: { etag: '"v1"' } });
    await arriveAfterLook(() => pathOf());
    expect(await fetched()).toBe(sha256(older));
    expect(asked()).toEqual(['GET /disk.raw']);
  });

  test('is not asked for again, although it had come before anybody looked', async () => {
    server.serve('/disk.raw', { body: older });
    vi.useFakeTimers({ toFake: ['Date'] });
    await arriveAfterLook(() => {
      vi.setSystemTime(Date.now() - 1000);
      return pathOf().finally(() => vi.setSystemTime(Date.now() + 1000));
    });
    expect(await fetched()).toBe(sha256(older));
    expect(asked()).toEqual(['GET /disk.raw']);
  });

  test('does with "always" if it was asked for later, and not if it was asked for before', async () => {
    server.serve('/disk.raw', { body: older });
    await arriveAfterLook(() => pathOf());
    await fetched({ pull: 'always' });
    expect(asked()).toEqual(['GET /disk.raw']);
    vi.useFakeTimers({ toFake: ['Date'] });
    vi.setSystemTime(Date.now() + 1000);
    await fetched({ pull: 'always' });
    expect(asked()).toEqual(['GET /disk.raw', 'HEAD /disk.raw', 'GET /disk.raw']);
  });
});

describe('a checksum', () => {
  test('finds an image that came from elsewhere', async () => {
    server.serve('/mirror/disk.raw', { body: older });
    await fetched({ path: '/mirror/disk.raw' });
    expect(await fetched({ checksum: { algorithm: 'sha256', digest: sha256(older) } })).toBe(sha256(older));
    expect(asked()).toEqual(['GET /mirror/disk.raw']);
  });

  test('is that of the packed bytes, and finds what they became', async () => {
    const packed = gzipSync(older);
    server.serve('/disk.raw', { body: packed });
    const checksum = { algorithm: 'sha512' as const, digest: sha512(packed) };
    const path = await pathOf({ checksum });
    expect(await pathOf({ checksum, path: '/another.raw' })).toBe(path);
    expect(asked()).toEqual(['GET /disk.raw']);
  });
});

describe('a list of checksums', () => {
  const list = (): ChecksumSource => ({ algorithm: 'list', url: server.url('/SHA512SUMS') });

  test('is asked first, and then no more', async () => {
    server.serve('/SHA512SUMS', { body: `${sha512(newer)}  other.raw\n${sha512(older)}  disk.raw\n` });
    server.serve('/disk.raw', { body: older });
    expect(await fetched({ checksum: list() })).toBe(sha256(older));
    expect(await fetched({ checksum: list() })).toBe(sha256(older));
    expect(asked()).toEqual(['GET /SHA512SUMS', 'GET /disk.raw']);
  });

  test('that promises other bytes than come leaves nothing', async () => {
    server.serve('/SHA512SUMS', { body: `${sha512(newer)}  disk.raw\n` });
    server.serve('/disk.raw', { body: older });
    await expect(fetched({ checksum: list() })).rejects.toMatchObject({ code: 'IMAGE_CHECKSUM' });
    expect(await index.listCachedImages(images)).toEqual([]);
  });

  test('costs one request with "always" while it has not changed, and tells of a newer image', async () => {
    server.serve('/SHA512SUMS', { body: `${sha512(older)}  disk.raw\n` });
    server.serve('/disk.raw', { body: older });
    const before = await pathOf({ checksum: list() });
    expect(await pathOf({ checksum: list(), pull: 'always' })).toBe(before);
    expect(asked()).toEqual(['GET /SHA512SUMS', 'GET /disk.raw', 'GET /SHA512SUMS']);
    server.serve('/SHA512SUMS', { body: `${sha512(newer)}  disk.raw\n` });
    server.serve('/disk.raw', { body: newer });
    expect(await fetched({ checksum: list(), pull: 'always' })).toBe(sha256(newer));
  });

  test('is tried again when its server is busy', async () => {
    server.serve('/SHA512SUMS', { status: 503 }, { body: `${sha512(older)}  disk.raw\n` });
    server.serve('/disk.raw', { body: older });
    expect(await fetched({ checksum: list() })).toBe(sha256(older));
    expect(asked()).toEqual(['GET /SHA512SUMS', 'GET /SHA512SUMS', 'GET /disk.raw']);
  });
});

test('an image that was found to be damaged is fetched anew, in its place', async () => {
  server.serve('/disk.raw', { body: older });
  const path = await pathOf();
  await spoilImage(path, newer);
  await markDamaged(path, { directory: images, command: 'test' });
  await expect(pathOf({ pull: 'never' })).rejects.toMatchObject({ code: 'IMAGE_NOT_FOUND' });
  expect(await pathOf()).toBe(path);
  expect(sha256(await readFile(path))).toBe(sha256(older));
  expect(await pathOf()).toBe(path);
  expect(asked()).toEqual(['GET /disk.raw', 'GET /disk.raw']);
});
