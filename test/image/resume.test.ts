/** Downloads that break off, and what the next attempt asks for. */
import { Buffer } from 'node:buffer';
import { createHash, randomBytes } from 'node:crypto';
import { readFile, readdir, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { VmctlError } from '../../src/errors.js';
import { partialDownload } from '../../src/image/cache-index.js';
import { type FetchOptions, fetchImage } from '../../src/image/cache.js';
import { SharedWork } from '../../src/image/shared-work.js';
import { urlKey } from '../../src/image/source.js';
import { silentReporter } from '../../src/model/event.js';
import { type TemporaryDirectory, temporaryDirectory } from '../support/fixtures.js';
import { type HttpServer, type Reply, startHttpServer } from '../support/http-server.js';

const MIB = 1024 ** 2;
const disk = Buffer.concat([Buffer.from([0, 1, 2, 3]), randomBytes(4 * MIB - 4)]);
const other = Buffer.concat([Buffer.from([0, 1, 2, 3]), randomBytes(4 * MIB - 4)]);
const packed = gzipSync(disk, { level: 0 });
const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');
const DATE = 'Sun, 22 Nov 2026 00:00:00 GMT';

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
});

/** A server that keeps to the rules, with a strong `ETag`. */
const good = (more: Partial<Reply> = {}): Reply => ({ body: disk, headers: { etag: '"v1"' }, ranges: true, ...more });

/** Fetches, and gives the digest of what is in the cache then. */
async function fetched(more: Partial<FetchOptions> & { readonly checksum?: string } = {}): Promise<string> {
  const checksum = more.checksum === undefined ? null : { algorithm: 'sha256' as const, digest: more.checksum };
  const path = await fetchImage(
    { url: server.url('/disk.raw'), checksum },
    {
      directory: images,
      command: 'vmctl up',
      signal: new AbortController().signal,
      reporter: silentReporter,
      retryDelaysMs: [1, 1],
      shared: new SharedWork(),
      ...more,
    },
  );
  return sha256(await readFile(path));
}

/** Fetches until so many bytes are in the file, and interrupts it then, as Ctrl-C does. */
async function interrupted(reply: Reply, more: { readonly checksum?: string } = {}): Promise<void> {
  server.serve('/disk.raw', { ...reply, stallAfter: 2 * MIB });
  const controller = new AbortController();
  const progress = (bytes: number): void => {
    if (bytes >= 2 * MIB) controller.abort();
  };
  // The last progress may be held back for a moment, so the size of the file tells too.
  const reporter = { ...silentReporter, progress };
  const work = fetched({ ...more, reporter, signal: controller.signal });
  const part = partialDownload(images, urlKey(new URL(server.url('/disk.raw'))));
  const watch = setInterval(
    () =>
      void stat(part).then(
        ({ size }) => progress(size),
        () => {},
      ),
    10,
  );
  try {
    await expect(work).rejects.toMatchObject({ code: 'ABORTED' });
  } finally {
    clearInterval(watch);
  }
}

const ranges = (): readonly (string | undefined)[] => server.requests.map(({ headers }) => headers.range);
const conditions = (): readonly unknown[] => server.requests.map(({ headers }) => headers['if-range']);
const hidden = async (): Promise<readonly string[]> => (await readdir(images)).filter((name) => name.startsWith('.'));

describe('a connection that breaks', () => {
  test('is made again for the rest alone', async () => {
    server.serve('/disk.raw', good({ endAfter: MIB }), good({ endAfter: MIB }), good());
    expect(await fetched()).toBe(sha256(disk));
    expect(ranges()[0]).toBeUndefined();
    expect(
      ranges()
        .slice(1)
        .every((range) => /^bytes=[1-9]\d*-$/.test(range ?? '')),
    ).toBe(true);
    expect(conditions().slice(1)).toEqual(['"v1"', '"v1"']);
    expect(await hidden()).toEqual([]);
  });

  test('goes on in the middle of compressed bytes', async () => {
    server.serve('/disk.raw', good({ body: packed, endAfter: MIB }), good({ body: packed }));
    expect(await fetched({ checksum: sha256(packed) })).toBe(sha256(disk));
    expect(ranges()[1]).toMatch(/^bytes=[1-9]\d*-$/);
  });

  test('may break as often as it likes while each attempt brings more', async () => {
    const steps = Array.from({ length: 3 }, () => good({ endAfter: 1.2 * MIB }));
    server.serve('/disk.raw', ...[good({ endAfter: 1.2 * MIB }), ...steps]);
    expect(await fetched({ retryDelaysMs: [1] })).toBe(sha256(disk));
    expect(server.requests.length).toBeGreaterThanOrEqual(4);
  });

  test('is given up when attempts bring nothing new, and what has come is kept for later', async () => {
    server.serve('/disk.raw', good({ endAfter: 2 * MIB }), good({ endAfter: 0 }));
    await expect(fetched()).rejects.toMatchObject({ code: 'IMAGE_DOWNLOAD' });
    expect(server.requests).toHaveLength(3);
    server.serve('/disk.raw', good());
    expect(await fetched()).toBe(sha256(disk));
    expect(ranges().at(-1)).toMatch(/^bytes=[1-9]\d*-$/);
    expect(await hidden()).toEqual([]);
  });
});

describe('a download that was interrupted', () => {
  test.each<[string, Reply, string]>([
    ['a strong ETag', good(), '"v1"'],
    ['an old Last-Modified', good({ headers: { 'last-modified': DATE } }), DATE],
  ])('goes on where it was, by %s', async (_, reply, condition) => {
    await interrupted(reply);
    expect(await hidden()).toHaveLength(2);
    server.serve('/disk.raw', reply);
    const progressed: number[] = [];
    const reporter = { ...silentReporter, progress: (bytes: number) => void progressed.push(bytes) };
    expect(await fetched({ reporter })).toBe(sha256(disk));
    expect(ranges()).toEqual([undefined, expect.stringMatching(/^bytes=[1-9]\d*-$/)]);
    expect(conditions()[1]).toBe(condition);
    expect(progressed[0]).toBeGreaterThan(MIB);
    expect(await hidden()).toEqual([]);
  });

  test.each<[string, Reply]>([
    ['a weak ETag', good({ headers: { etag: 'W/"v1"' } })],
    [
      'a Last-Modified that is too young',
      good({ headers: { 'last-modified': new Date(Date.now() + 3_600_000).toUTCString() } }),
    ],
    ['nothing', good({ headers: {} })],
  ])('begins anew where the server gives %s to tell two contents apart', async (_, reply) => {
    await interrupted(reply);
    server.serve('/disk.raw', reply);
    expect(await fetched()).toBe(sha256(disk));
    expect(ranges()).toEqual([undefined, undefined]);
  });

  test('goes on without a validator where a checksum will tell', async () => {
    await interrupted(good({ headers: {} }), { checksum: sha256(disk) });
    server.serve('/disk.raw', good({ headers: {} }));
    expect(await fetched({ checksum: sha256(disk) })).toBe(sha256(disk));
    expect(ranges()[1]).toMatch(/^bytes=[1-9]\d*-$/);
  });

  test('begins anew when the file on the server has changed', async () => {
    await interrupted(good());
    server.serve('/disk.raw', good({ body: other, headers: { etag: '"v2"' } }));
    expect(await fetched()).toBe(sha256(other));
    expect(server.requests).toHaveLength(2);
  });

  test('begins anew when the server knows of no ranges', async () => {
    await interrupted(good());
    server.serve('/disk.raw', good({ ranges: false }));
    expect(await fetched()).toBe(sha256(disk));
    expect(server.requests).toHaveLength(2);
  });

  test.each<[string, Reply]>([
    [
      'another part',
      {
        status: 206,
        headers: { etag: '"v1"', 'content-range': `bytes 0-9/${disk.length}` },
        body: disk.subarray(0, 10),
      },
    ],
    [
      'a part of a longer file',
      { status: 206, headers: { 'content-range': 'bytes 2097152-2097161/9999999' }, body: other.subarray(0, 10) },
    ],
    [
      'a part of another version',
      {
        status: 206,
        headers: { etag: '"v2"', 'content-range': `bytes 2097152-4194303/${disk.length}` },
        body: other.subarray(2 * MIB),
      },
    ],
    ['no such part', { status: 416, headers: { 'content-range': 'bytes */10' } }],
    ['a part that it does not name', { status: 206, body: disk.subarray(2 * MIB) }],
  ])('begins anew when the server sends %s', async (_, wrong) => {
    await interrupted(good());
    server.serve('/disk.raw', wrong, good());
    expect(await fetched()).toBe(sha256(disk));
    expect(ranges().at(-1)).toBeUndefined();
  });

  test('begins anew, once, when the pieces do not make what the checksum promises', async () => {
    await interrupted(good({ body: other, headers: {} }), { checksum: sha256(disk) });
    server.serve('/disk.raw', good({ headers: {} }));
    expect(await fetched({ checksum: sha256(disk) })).toBe(sha256(disk));
    expect(ranges()).toEqual([undefined, expect.stringMatching(/^bytes=/), undefined]);
    await expect(fetched({ checksum: '0'.repeat(64), directory: `${images}2` })).rejects.toMatchObject({
      code: 'IMAGE_CHECKSUM',
    });
    expect(server.requests).toHaveLength(4);
  });

  test('is not begun anew for ever on a bad connection to a wrong file', async () => {
    const halves = [good({ endAfter: 2 * MIB }), good()];
    server.serve('/disk.raw', good({ endAfter: 2 * MIB }), good(), ...halves, ...halves);
    await expect(fetched({ checksum: '0'.repeat(64) })).rejects.toMatchObject({ code: 'IMAGE_CHECKSUM' });
    expect(server.requests).toHaveLength(4);
    expect(await readdir(images)).toEqual([]);
  });

  test('begins anew when damaged bytes on this disk spoil what is compressed', async () => {
    await interrupted(good({ body: packed }));
    const part = partialDownload(images, urlKey(new URL(server.url('/disk.raw'))));
    const bytes = await readFile(part);
    await writeFile(part, bytes.fill(0xff, 100, 200));
    server.serve('/disk.raw', good({ body: packed }));
    expect(await fetched()).toBe(sha256(disk));
    expect(ranges().at(-1)).toBeUndefined();
    expect(await hidden()).toEqual([]);
  });

  test('begins anew after a crash of this host, unless a checksum will tell', async () => {
    const part = partialDownload(images, urlKey(new URL(server.url('/disk.raw'))));
    const crash = async (): Promise<void> => {
      const state: object = JSON.parse(await readFile(`${part}.json`, 'utf8'));
      await writeFile(`${part}.json`, JSON.stringify({ ...state, boot: 'an earlier one' }));
    };
    await interrupted(good());
    await crash();
    server.serve('/disk.raw', good());
    expect(await fetched({ directory: images })).toBe(sha256(disk));
    expect(ranges()).toEqual([undefined, undefined]);
  });

  test('needs no request when every byte had come', async () => {
    const part = partialDownload(images, urlKey(new URL(server.url('/disk.raw'))));
    await interrupted(good());
    await writeFile(part, disk);
    expect(await fetched()).toBe(sha256(disk));
    expect(server.requests).toHaveLength(1);
  });

  test('begins anew when more had come than there is', async () => {
    const part = partialDownload(images, urlKey(new URL(server.url('/disk.raw'))));
    await interrupted(good());
    await writeFile(part, Buffer.concat([disk, disk]));
    server.serve('/disk.raw', good());
    expect(await fetched()).toBe(sha256(disk));
    expect(ranges()[1]).toBeUndefined();
  });

  test('is gone when the file on the server is gone', async () => {
    await interrupted(good());
    server.serve('/disk.raw', { status: 404 });
    await expect(fetched()).rejects.toMatchObject({ code: 'IMAGE_NOT_FOUND' });
    expect(await readdir(images)).toEqual([]);
  });
});

test('more bytes than were promised are an error, and nothing is kept', async () => {
  const headers = { etag: '"v1"', 'content-range': `bytes ${2 * MIB}-${4 * MIB - 1}/${4 * MIB}` };
  await interrupted(good());
  server.serve('/disk.raw', {
    status: 206,
    headers,
    body: Buffer.concat([disk.subarray(2 * MIB), disk.subarray(0, 512)]),
  });
  const error = await fetched().catch((thrown: unknown) => thrown);
  expect(error).toBeInstanceOf(VmctlError);
  expect(error).toMatchObject({ code: 'IMAGE_DOWNLOAD' });
});
