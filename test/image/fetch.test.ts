import { Buffer } from 'node:buffer';
import { createHash, randomBytes } from 'node:crypto';
import { chmod, mkdir, mkdtemp, readFile, readdir, realpath, rm, stat, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { MockAgent } from 'undici';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type FetchOptions, fetchImage } from '../../src/image/cache.js';
import { listCachedImages } from '../../src/image/cache-index.js';
import { SharedWork } from '../../src/image/shared-work.js';
import { type StageReporter, silentReporter } from '../../src/model/event.js';
import type { Checksum } from '../../src/model/spec.js';
import { runCommand } from '../../src/util/exec.js';
import { waitFor } from '../../src/util/wait.js';
import { type HttpServer, startHttpServer } from '../support/http-server.js';
import { failure } from '../support/failure.js';

const MIB = 1024 ** 2;
/** A raw disk: no text, no known signature, whole sectors. */
const disk = Buffer.concat([Buffer.from([0, 1, 2, 3]), randomBytes(2 * MIB - 4)]);
const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');
const sha512 = (bytes: Uint8Array): string => createHash('sha512').update(bytes).digest('hex');

/** Comparing buffers of this size element by element takes seconds. */
async function digestOf(path: string): Promise<string> {
  return sha256(await readFile(path));
}

let root: string;
let images: string;
let server: HttpServer;

beforeEach(async () => {
  root = await realpath(await mkdtemp(join(tmpdir(), 'vmctl-fetch-')));
  images = join(root, 'images');
  server = await startHttpServer();
});

afterEach(async () => {
  await server[Symbol.asyncDispose]();
  await rm(root, { recursive: true, force: true });
});

function options(more: Partial<FetchOptions> = {}): FetchOptions {
  return {
    directory: images,
    command: 'vmctl up',
    signal: new AbortController().signal,
    reporter: silentReporter,
    environment: {},
    retryDelaysMs: [1, 1],
    shared: new SharedWork(),
    ...more,
  };
}

function checksumOf(text: string | undefined): Checksum | null {
  const [algorithm, digest = ''] = text?.split(':') ?? [];
  return algorithm === 'sha256' || algorithm === 'sha512' ? { algorithm, digest } : null;
}

/** What `fetchImage` does with a URL and, if given, `sha256:…` or `sha512:…`. */
async function fetched(url: string, more: Partial<FetchOptions> & { checksum?: string } = {}): Promise<string> {
  return fetchImage({ url, checksum: checksumOf(more.checksum) }, options(more));
}

async function leftovers(): Promise<string[]> {
  return readdir(images).catch(() => []);
}

interface Heard extends StageReporter {
  readonly said: string[];
  readonly progressed: [number, number | null][];
  /** Settles when something of this kind is said. */
  hears(pattern: RegExp): Promise<void>;
}

function listener(): Heard {
  const said: string[] = [];
  const progressed: [number, number | null][] = [];
  const waiting: { pattern: RegExp; resolve: () => void }[] = [];
  const say = (text: string): void => {
    said.push(text);
    for (const { pattern, resolve } of waiting) if (pattern.test(text)) resolve();
  };
  return {
    said,
    progressed,
    status: say,
    log: say,
    progress: (bytes, total) => void progressed.push([bytes, total]),
    hears: (pattern) => {
      if (said.some((text) => pattern.test(text))) return Promise.resolve();
      return new Promise((resolve) => waiting.push({ pattern, resolve }));
    },
  };
}

describe('an image from a URL', () => {
  test('is in the cache, whole, read-only and under a readable name', async () => {
    server.serve('/pool/debian-12-generic.raw', { body: disk });
    const path = await fetched(server.url('/pool/debian-12-generic.raw'));
    expect(path).toMatch(/\/images\/debian-12-generic-[0-9a-f]{12}\.raw$/);
    expect(await digestOf(path)).toBe(sha256(disk));
    expect((await stat(path)).mode & 0o777).toBe(0o444);
  });

  test('has a record with its digest beside it', async () => {
    server.serve('/disk.raw', {
      body: disk,
      headers: { etag: '"v1"', 'last-modified': 'Sun, 22 Nov 2026 00:00:00 GMT' },
    });
    const path = await fetched(server.url('/disk.raw?token=secret'));
    const [image, ...others] = await listCachedImages(images);
    expect(others).toEqual([]);
    expect(image?.path).toBe(path);
    expect(image?.record).toMatchObject({
      schemaVersion: 1,
      file: { sha256: sha256(disk), bytes: disk.length },
      damagedAt: null,
      origins: [
        {
          url: server.url('/disk.raw?…'),
          sha256: sha256(disk),
          sha512: null,
          bytes: disk.length,
          compression: null,
          etag: '"v1"',
          lastModified: 'Sun, 22 Nov 2026 00:00:00 GMT',
        },
      ],
    });
    expect(JSON.parse(await readFile(`${path}.json`, 'utf8'))).toEqual(image?.record);
    expect(await leftovers()).toHaveLength(2);
  });

  test('is not asked for again', async () => {
    server.serve('/disk.raw', { body: disk });
    const path = await fetched(server.url('/disk.raw'));
    expect(await fetched(server.url('/disk.raw#top'))).toBe(path);
    expect(server.requests).toHaveLength(1);
  });

  test('is asked for again at another URL, and kept once where the content is the same', async () => {
    server.serve('/a/disk.raw', { body: disk });
    server.serve('/b/disk.raw', { body: gzipSync(disk) });
    server.serve('/c/disk.raw', { body: Buffer.alloc(512) });
    const a = await fetched(server.url('/a/disk.raw'));
    const before = await stat(a);
    expect([await fetched(server.url('/b/disk.raw')), await fetched(server.url('/a/disk.raw?v=2'))]).toEqual([a, a]);
    expect((await stat(a)).ino).toBe(before.ino);
    expect(await fetched(server.url('/c/disk.raw'))).not.toBe(a);
    expect(server.requests).toHaveLength(4);
    const origins = (await listCachedImages(images)).flatMap(({ record }) => record.origins.map(({ url }) => url));
    expect(origins.toSorted()).toEqual([
      server.url('/a/disk.raw'),
      server.url('/a/disk.raw?…'),
      server.url('/b/disk.raw'),
      server.url('/c/disk.raw'),
    ]);
    expect(await leftovers()).toHaveLength(4);
  });

  test('tells its progress in bytes, to the end', async () => {
    server.serve('/disk.raw', { body: disk });
    const reporter = listener();
    await fetched(server.url('/disk.raw'), { reporter });
    expect(reporter.progressed.at(-1)).toEqual([disk.length, disk.length]);
  });

  test('may come without a length', async () => {
    server.serve('/disk.raw', { body: disk, contentLength: null });
    const reporter = listener();
    expect(await digestOf(await fetched(server.url('/disk.raw'), { reporter }))).toBe(sha256(disk));
    expect(reporter.progressed.at(-1)).toEqual([disk.length, disk.length]);
  });

  test('is fetched again when its file has vanished or has another size', async () => {
    server.serve('/disk.raw', { body: disk });
    const path = await fetched(server.url('/disk.raw'));
    await rm(path);
    expect(await listCachedImages(images)).toEqual([]);
    expect(await fetched(server.url('/disk.raw'))).toBe(path);
    await chmod(path, 0o644);
    await writeFile(path, disk.subarray(0, MIB));
    expect(await fetched(server.url('/disk.raw'))).toBe(path);
    expect(await digestOf(path)).toBe(sha256(disk));
    expect(server.requests).toHaveLength(3);
  });

  test('is fetched again when its record is damaged', async () => {
    server.serve('/disk.raw', { body: disk });
    const path = await fetched(server.url('/disk.raw'));
    await writeFile(`${path}.json`, '{');
    expect(await fetched(server.url('/disk.raw'))).toBe(path);
    expect(server.requests).toHaveLength(2);
  });

  test('gets the user of the URL as Basic authentication, and shows it nowhere', async () => {
    server.serve('/disk.raw', { body: disk });
    const url = `http://me:p%40ss@${server.host}/disk.raw`;
    const path = await fetched(url);
    expect(server.requests[0]?.headers.authorization).toBe(`Basic ${Buffer.from('me:p@ss').toString('base64')}`);
    expect(await readFile(`${path}.json`, 'utf8')).not.toMatch(/p%40ss|p@ss/);
  });

  test('asks for no transfer compression', async () => {
    server.serve('/disk.raw', { body: disk });
    await fetched(server.url('/disk.raw'));
    expect(server.requests[0]?.headers['accept-encoding']).toBe('identity');
  });
});

describe('redirects', () => {
  test('are followed, and the image keeps the name of its URL', async () => {
    server.serve('/latest.raw', { status: 302, headers: { location: '/pool/1.raw' } });
    server.serve('/pool/1.raw', { body: disk });
    expect(await fetched(server.url('/latest.raw'))).toMatch(/\/latest-[0-9a-f]{12}\.raw$/);
  });

  test('do not take a password to another server', async () => {
    await using other = await startHttpServer();
    other.serve('/disk.raw', { body: disk });
    server.serve('/disk.raw', { status: 302, headers: { location: other.url('/disk.raw') } });
    await fetched(`http://me:pass@${server.host}/disk.raw`);
    expect(other.requests[0]?.headers.authorization).toBeUndefined();
  });

  test('end after five', async () => {
    for (let hop = 0; hop < 9; hop++) {
      server.serve(`/${hop}`, { status: 302, headers: { location: `/${hop + 1}` } });
    }
    const error = await failure(fetched(server.url('/0')));
    expect(error.code).toBe('IMAGE_DOWNLOAD');
    expect(error.message).toContain('more than 5 redirects');
    expect(server.requests).toHaveLength(6);
  });

  test('never lead from https to http', async () => {
    const dispatcher = new MockAgent();
    dispatcher.disableNetConnect();
    const [safe, plain] = ['https://safe.test', 'http://plain.test'];
    dispatcher
      .get(safe)
      .intercept({ path: '/disk.raw' })
      .reply(302, '', { headers: { location: `${plain}/disk.raw` } });
    dispatcher.get(plain).intercept({ path: '/disk.raw' }).reply(200, disk);
    const error = await failure(fetched(`${safe}/disk.raw`, { dispatcher }));
    expect(error.code).toBe('IMAGE_DOWNLOAD');
    expect(error.message).toBe('https://safe.test redirects to http://plain.test, which is not encrypted');
    expect(dispatcher.pendingInterceptors()).toHaveLength(1);
    expect(await leftovers()).toEqual([]);
    await dispatcher.close();
  });
});

describe('a proxy that the environment names', () => {
  test('is used', async () => {
    const asked: string[] = [];
    const proxy = createServer();
    proxy.on('connect', (request, socket) => {
      asked.push(request.url ?? '');
      socket.end('HTTP/1.1 502 Bad Gateway\r\n\r\n');
    });
    await new Promise<void>((resolve) => proxy.listen(0, '127.0.0.1', resolve));
    const address = proxy.address();
    const port = typeof address === 'object' ? address?.port : null;
    const environment = { https_proxy: `http://127.0.0.1:${port}`, HTTP_PROXY: `http://127.0.0.1:${port}` };
    expect((await failure(fetched('https://images.test/disk.raw', { environment }))).code).toBe('IMAGE_DOWNLOAD');
    expect(asked[0]).toBe('images.test:443');
    server.serve('/disk.raw', { body: disk });
    const direct = { ...environment, no_proxy: '127.0.0.1' };
    expect(await digestOf(await fetched(server.url('/disk.raw'), { environment: direct }))).toBe(sha256(disk));
    proxy.closeAllConnections();
    await new Promise((resolve) => proxy.close(resolve));
  });
});

describe('a checksum', () => {
  test.each([
    ['sha256', sha256(disk)],
    ['sha512', sha512(disk)],
  ])('in %s that is right is accepted, and not asked for again', async (algorithm, digest) => {
    server.serve('/disk.raw', { body: disk });
    const path = await fetched(server.url('/disk.raw'), { checksum: `${algorithm}:${digest}` });
    expect(await fetched(server.url('/disk.raw'), { checksum: `${algorithm}:${digest}` })).toBe(path);
    expect(await fetched(server.url('/disk.raw'))).toBe(path);
    expect(server.requests).toHaveLength(1);
  });

  test('that is wrong is an error with both digests, and leaves nothing', async () => {
    server.serve('/disk.raw', { body: disk });
    const error = await failure(fetched(server.url('/disk.raw'), { checksum: `sha256:${'0'.repeat(64)}` }));
    expect(error.code).toBe('IMAGE_CHECKSUM');
    expect(error.message).toBe(`${server.url('/disk.raw')} has another sha256 checksum than expected`);
    expect(error.details).toBe(`expected ${'0'.repeat(64)}\ngot      ${sha256(disk)}`);
    expect(await leftovers()).toEqual([]);
    expect(server.requests).toHaveLength(1);
  });

  test('that is new for a cached image is not believed: the image is fetched again', async () => {
    const newer = randomBytes(MIB);
    server.serve('/disk.raw', { body: disk }, { body: disk }, { body: newer });
    const url = server.url('/disk.raw');
    const path = await fetched(url);
    const wrong = await failure(fetched(url, { checksum: `sha256:${'0'.repeat(64)}` }));
    expect(wrong.code).toBe('IMAGE_CHECKSUM');
    expect(await fetched(url)).toBe(path);
    const later = await fetched(url, { checksum: `sha256:${sha256(newer)}` });
    expect(later).not.toBe(path);
    expect([await digestOf(path), await digestOf(later)]).toEqual([disk, newer].map(sha256));
    expect(await fetched(url, { checksum: `sha256:${sha256(disk)}` })).toBe(path);
    expect(server.requests).toHaveLength(3);
  });

  test('of another kind makes the same file known by both', async () => {
    server.serve('/disk.raw', { body: disk });
    const url = server.url('/disk.raw');
    const path = await fetched(url);
    const before = await stat(path);
    expect(await fetched(url, { checksum: `sha512:${sha512(disk)}` })).toBe(path);
    expect((await stat(path)).ino).toBe(before.ino);
    expect(await fetched(url, { checksum: `sha256:${sha256(disk)}` })).toBe(path);
    expect(server.requests).toHaveLength(2);
  });

  test('is that of the bytes as they were downloaded', async () => {
    const packed = gzipSync(disk);
    server.serve('/disk.raw.gz', { body: packed });
    const path = await fetched(server.url('/disk.raw.gz'), { checksum: `sha256:${sha256(packed)}` });
    expect(await digestOf(path)).toBe(sha256(disk));
  });
});

describe('a compressed image', () => {
  test.each([
    ['gzip', 'gz', 'gzip'],
    ['zstd', 'zst', 'zstd'],
    ['zstd', 'zstd', 'zstd'],
    ['xz', 'xz', 'xz'],
    ['bzip2', 'bz2', 'bzip2'],
  ])('with %s as .%s is decompressed while it comes', async (compression, suffix, program) => {
    const file = join(root, 'disk');
    await writeFile(file, disk);
    await runCommand('sh', ['-c', `"$1" -c "$2" > "$2.packed"`, 'sh', program, file]);
    const packed = await readFile(`${file}.packed`);
    server.serve(`/disk.qcow2.${suffix}`, { body: packed });
    const path = await fetched(server.url(`/disk.qcow2.${suffix}`));
    expect(path).toMatch(/\/disk-[0-9a-f]{12}\.qcow2$/);
    expect(await digestOf(path)).toBe(sha256(disk));
    const [image] = await listCachedImages(images);
    expect(image?.record).toMatchObject({
      file: { sha256: sha256(disk), bytes: disk.length },
      origins: [{ compression, sha256: sha256(packed), bytes: packed.length }],
    });
  });

  test('takes no space where it is empty', async () => {
    const sparse = Buffer.concat([disk.subarray(0, MIB), Buffer.alloc(6 * MIB), disk.subarray(MIB), Buffer.alloc(MIB)]);
    server.serve('/disk.raw.gz', { body: gzipSync(sparse) });
    const path = await fetched(server.url('/disk.raw.gz'));
    expect(await digestOf(path)).toBe(sha256(sparse));
    const { size, blocks } = await stat(path);
    expect(size).toBe(sparse.length);
    expect(blocks * 512).toBeLessThan(3 * MIB);
  });

  test('is told by its content, whatever its name says', async () => {
    server.serve('/download', { body: gzipSync(disk) });
    server.serve('/disk.raw.gz', { body: disk });
    expect(await digestOf(await fetched(server.url('/download?id=7')))).toBe(sha256(disk));
    expect(await digestOf(await fetched(server.url('/disk.raw.gz')))).toBe(sha256(disk));
  });

  test.each(['gzip', 'zstd', 'xz', 'bzip2'])('with %s in several parts is decompressed to the end', async (program) => {
    const half = disk.length / 2;
    const parts = [disk.subarray(0, half), disk.subarray(half)];
    const packed = await Promise.all(
      parts.map(async (part, index) => {
        const file = join(root, `part-${index}`);
        await writeFile(file, part);
        await runCommand('sh', ['-c', `"$1" -c "$2" > "$2.packed"`, 'sh', program, file]);
        return readFile(`${file}.packed`);
      }),
    );
    server.serve('/disk.packed', { body: Buffer.concat(packed) });
    expect(await digestOf(await fetched(server.url('/disk.packed')))).toBe(sha256(disk));
  });

  test.each(['gzip', 'zstd', 'xz', 'bzip2'])('with %s that is cut off or damaged leaves nothing', async (program) => {
    const file = join(root, 'disk');
    await writeFile(file, disk);
    await runCommand('sh', ['-c', `"$1" -c "$2" > "$2.packed"`, 'sh', program, file]);
    const packed = await readFile(`${file}.packed`);
    const damaged = Buffer.from(packed);
    damaged.fill(0x55, MIB, MIB + 100_000);
    for (const body of [packed.subarray(0, MIB), damaged]) {
      server.serve('/disk', { body });
      const error = await failure(fetched(server.url('/disk')));
      expect(error.code).toBe('IMAGE_DOWNLOAD');
      expect(error.message).toContain('its compressed content is damaged');
    }
    expect(await leftovers()).toEqual([]);
  });

  describe.each(['zstd', 'xz', 'bzip2'])('with %s, where the tool is not installed,', (program) => {
    let packed: Buffer;
    let path: string | undefined;

    beforeEach(async () => {
      const file = join(root, 'disk');
      await writeFile(file, disk);
      // Two parts, as tools that work in parallel write them.
      await runCommand('sh', ['-c', `"$1" -c "$2" > "$2.packed"; "$1" -c "$2" >> "$2.packed"`, 'sh', program, file]);
      packed = await readFile(`${file}.packed`);
      path = process.env['PATH'];
      process.env['PATH'] = root;
    });

    afterEach(() => {
      process.env['PATH'] = path;
    });

    test('is decompressed by a library, which is told', async () => {
      server.serve('/disk', { body: packed });
      const reporter = listener();
      const expected = sha256(Buffer.concat([disk, disk]));
      expect(await digestOf(await fetched(server.url('/disk'), { reporter }))).toBe(expected);
      expect(reporter.said).toEqual([expect.stringContaining(`${program} is not installed, and what takes its place`)]);
    });

    test('leaves nothing where it is cut off or damaged', async () => {
      const damaged = Buffer.from(packed).fill(0x55, MIB, MIB + 100_000);
      for (const body of [packed.subarray(0, MIB), damaged]) {
        server.serve('/disk', { body });
        const error = await failure(fetched(server.url('/disk')));
        expect(error.code).toBe('IMAGE_DOWNLOAD');
        expect(error.message).toContain(`its compressed content is damaged: it cannot be unpacked as ${program}`);
      }
      expect(await leftovers()).toEqual([]);
    });

    test('is continued after a lost connection', async () => {
      const reply = { body: packed, headers: { etag: '"v1"' }, ranges: true };
      server.serve('/disk', { ...reply, endAfter: MIB }, reply);
      expect(await digestOf(await fetched(server.url('/disk')))).toBe(sha256(Buffer.concat([disk, disk])));
      expect(server.requests).toHaveLength(2);
    });
  });
});

describe('what is no disk image leaves nothing', () => {
  test.each([
    ['an HTML page', '<!DOCTYPE html><title>Sign in</title>', 'it is an HTML page'],
    ['half a sector', Buffer.alloc(700), 'no multiple of 512'],
    ['nothing', '', 'it is empty'],
    ['a VMDK image', Buffer.concat([Buffer.from('KDMV'), Buffer.alloc(508)]), 'it is a VMDK image'],
    ['a compressed text', gzipSync('hello'), 'it is a text file'],
  ])('such as %s', async (_, body, reason) => {
    server.serve('/disk.qcow2', { body });
    const error = await failure(fetched(server.url('/disk.qcow2')));
    expect(error.code).toBe('IMAGE_INVALID');
    expect(error.message).toContain(`${server.url('/disk.qcow2')} is not an image: `);
    expect(error.message).toContain(reason);
    expect(error.message).not.toContain(images);
    expect(await leftovers()).toEqual([]);
  });

  test('such as a qcow2 image that is cut off by a server that lies about its length', async () => {
    const raw = join(root, 'disk.raw');
    const qcow2 = join(root, 'disk.qcow2');
    await writeFile(raw, disk);
    await runCommand('qemu-img', ['convert', '-f', 'raw', '-O', 'qcow2', raw, qcow2]);
    const body = await readFile(qcow2);
    server.serve('/disk.qcow2', { body: body.subarray(0, MIB), contentLength: null }, { body });
    expect((await failure(fetched(server.url('/disk.qcow2')))).message).toContain('it is cut off');
    expect(await leftovers()).toEqual([]);
    expect(await digestOf(await fetched(server.url('/disk.qcow2')))).toBe(sha256(body));
  });
});

describe('a failure that may pass', () => {
  test.each([
    ['a reset connection', { body: disk, dropAfter: 500_000 }],
    ['a reset before the answer', { body: disk, dropAfter: 0 }],
    ['a body that is shorter than promised', { body: disk.subarray(0, MIB), contentLength: disk.length }],
    ['HTTP 503', { status: 503 }],
    ['HTTP 500', { status: 500 }],
    ['HTTP 408', { status: 408 }],
    ['HTTP 429', { status: 429, headers: { 'retry-after': '0' } }],
    ['a date to come back at', { status: 503, headers: { 'retry-after': 'Sun, 22 Nov 2020 00:00:00 GMT' } }],
  ])('such as %s is tried again', async (_, reply) => {
    server.serve('/disk.raw', reply, reply, { body: disk });
    const reporter = listener();
    expect(await digestOf(await fetched(server.url('/disk.raw'), { reporter }))).toBe(sha256(disk));
    expect(server.requests).toHaveLength(3);
    expect(reporter.said.filter((text) => text.startsWith('trying again in'))).toHaveLength(2);
  });

  test('is not tried again sooner than the server asks', async () => {
    server.serve('/disk.raw', { status: 429, headers: { 'retry-after': '1' } }, { body: disk });
    const reporter = listener();
    const begun = performance.now();
    await fetched(server.url('/disk.raw'), { reporter });
    expect(performance.now() - begun).toBeGreaterThan(990);
    expect(reporter.said).toContain('trying again in 1.0 s');
  });

  test('such as a server that sends no more is tried again', async () => {
    server.serve('/disk.raw', { body: disk, stallAfter: 500_000 }, { body: disk });
    expect(await digestOf(await fetched(server.url('/disk.raw'), { stallMs: 100 }))).toBe(sha256(disk));
  });

  test('that does not pass is an error that says what it was, and leaves nothing', async () => {
    server.serve('/disk.raw', { body: disk, stallAfter: 500_000 });
    const url = server.url('/disk.raw');
    const error = await failure(fetched(`${url}?token=secret`, { stallMs: 100, retryDelaysMs: [1] }));
    expect(error.code).toBe('IMAGE_DOWNLOAD');
    expect(error.message).toBe(`cannot download ${url}?…: the server sent nothing for 0.1 s`);
    expect(error.hint).toContain('try again');
    expect(server.requests).toHaveLength(2);
    expect(await leftovers()).toEqual([]);
  });

  test('is given up after three attempts', async () => {
    server.serve('/disk.raw', { body: disk, dropAfter: 500_000 });
    expect((await failure(fetched(server.url('/disk.raw')))).code).toBe('IMAGE_DOWNLOAD');
    server.serve('/busy.raw', { status: 503 });
    const busy = await failure(fetched(server.url('/busy.raw')));
    expect(busy.message).toBe(`cannot download ${server.url('/busy.raw')}: the server answered with HTTP 503`);
    expect(server.requests).toHaveLength(6);
  });

  test('is not waited for when the server asks for too long a break', async () => {
    server.serve('/disk.raw', { status: 429, headers: { 'retry-after': '3600' } });
    const error = await failure(fetched(server.url('/disk.raw')));
    expect(error.code).toBe('IMAGE_DOWNLOAD');
    expect(error.message).toContain('HTTP 429, and wants no request for 3600 s');
    expect(server.requests).toHaveLength(1);
  });

  test('is refused by a server that nobody runs', async () => {
    const gone = await startHttpServer();
    await gone[Symbol.asyncDispose]();
    const error = await failure(fetched(gone.url('/disk.raw')));
    expect(error.code).toBe('IMAGE_DOWNLOAD');
    expect(error.message).toContain('ECONNREFUSED');
  });
});

describe('a failure that does not pass is not tried again', () => {
  test.each([404, 410])('such as HTTP %i', async (status) => {
    server.serve('/disk.raw', { status });
    const error = await failure(fetched(`http://me:pass@${server.host}/disk.raw?token=secret`));
    expect(error.code).toBe('IMAGE_NOT_FOUND');
    expect(error.message).toBe(`there is no image at ${server.url('/disk.raw?…')} (HTTP ${status})`);
    expect(server.requests).toHaveLength(1);
  });

  test.each([401, 403, 418])('such as HTTP %i', async (status) => {
    server.serve('/disk.raw', { status });
    const error = await failure(fetched(server.url('/disk.raw')));
    expect(error.code).toBe('IMAGE_DOWNLOAD');
    expect(error.message).toContain(`the server answered with HTTP ${status}`);
    expect(server.requests).toHaveLength(1);
  });

  test.each([
    ['no url', 'IMAGE_NOT_FOUND'],
    ['ftp://example.test/disk.raw', 'UNSUPPORTED'],
    ['file:///disk.raw', 'UNSUPPORTED'],
  ])('such as the address %j', async (url, code) => {
    expect((await failure(fetched(url))).code).toBe(code);
  });

  test('such as a file of this host, with the way to use it', async () => {
    expect(await failure(fetched('file:///disk%zz.raw'))).toMatchObject({
      message: 'there is nothing to fetch from file:///disk%zz.raw: it is a file of this host',
      hint: 'Use it where it is: in a VMFile with image "PATH", or with vmctl create --image PATH.',
    });
  });

  test('such as a cache that cannot be written', async () => {
    server.serve('/disk.raw', { body: disk });
    await writeFile(images, 'a file');
    expect((await failure(fetched(server.url('/disk.raw')))).code).toBe('STATE_DIRECTORY');
  });
});

describe('several who want the same image', () => {
  test('share one download, and see its progress', async () => {
    let go = (): void => {};
    const until = new Promise<void>((resolve) => (go = resolve));
    server.serve('/disk.raw', { body: disk, stallAfter: MIB, until });
    const shared = new SharedWork<string>();
    const reporters = Array.from({ length: 5 }, listener);
    const all = reporters.map((reporter) => fetched(server.url('/disk.raw'), { shared, reporter }));
    await server.requested(1);
    go();
    expect(new Set(await Promise.all(all)).size).toBe(1);
    expect(server.requests).toHaveLength(1);
    for (const reporter of reporters) expect(reporter.progressed.at(-1)).toEqual([disk.length, disk.length]);
  });

  test('share one download across processes, and say for whom they wait', async () => {
    let go = (): void => {};
    const until = new Promise<void>((resolve) => (go = resolve));
    server.serve('/disk.raw', { body: disk, stallAfter: MIB, until });
    // Two groups of this process know of each other by the lock alone, as two processes do.
    const first = fetched(server.url('/disk.raw'), { command: 'vmctl up --file a' });
    await server.requested(1);
    const reporter = listener();
    const second = fetched(server.url('/disk.raw'), { reporter });
    await reporter.hears(/waiting/);
    expect(reporter.said).toEqual([`waiting for "vmctl up --file a" (pid ${process.pid}), which downloads disk.raw`]);
    // They see how far the other one is.
    await waitFor(async () => (reporter.progressed.some(([, total]) => total === disk.length) ? true : null), {
      timeoutMs: 20_000,
    });
    go();
    expect(await second).toBe(await first);
    expect(server.requests).toHaveLength(1);
  });

  test('go on when one of them leaves', async () => {
    let go = (): void => {};
    const until = new Promise<void>((resolve) => (go = resolve));
    server.serve('/disk.raw', { body: disk, stallAfter: MIB, until });
    const shared = new SharedWork<string>();
    const leaving = new AbortController();
    const first = fetched(server.url('/disk.raw'), { shared, signal: leaving.signal });
    const second = fetched(server.url('/disk.raw'), { shared });
    await server.requested(1);
    leaving.abort();
    expect((await failure(first)).code).toBe('ABORTED');
    go();
    expect(await digestOf(await second)).toBe(sha256(disk));
    expect(server.requests).toHaveLength(1);
  });

  test('end the download when the last of them leaves, and leave nothing', async () => {
    server.serve('/disk.raw', { body: disk, stallAfter: MIB }, { body: disk });
    const shared = new SharedWork<string>();
    const leaving = [new AbortController(), new AbortController()];
    const both = leaving.map(({ signal }) => failure(fetched(server.url('/disk.raw'), { shared, signal })));
    await server.requested(1);
    for (const controller of leaving) controller.abort();
    expect((await Promise.all(both)).map((error) => error.code)).toEqual(['ABORTED', 'ABORTED']);
    expect(await leftovers()).toEqual([]);
    expect(await digestOf(await fetched(server.url('/disk.raw'), { shared }))).toBe(sha256(disk));
  });

  test('fail together, and try anew when asked again', async () => {
    server.serve('/disk.raw', { status: 404 }, { body: disk });
    const shared = new SharedWork<string>();
    const both = [1, 2].map(() => failure(fetched(server.url('/disk.raw'), { shared })));
    expect((await Promise.all(both)).map((error) => error.code)).toEqual(['IMAGE_NOT_FOUND', 'IMAGE_NOT_FOUND']);
    expect(await digestOf(await fetched(server.url('/disk.raw'), { shared }))).toBe(sha256(disk));
  });

  test('do not come to one who was cancelled before', async () => {
    const error = await failure(fetched(server.url('/disk.raw'), { signal: AbortSignal.abort() }));
    expect(error.code).toBe('ABORTED');
    expect(server.requests).toHaveLength(0);
  });

  test('can leave while they wait for another process', async () => {
    await mkdir(images);
    server.serve('/disk.raw', { body: disk, stallAfter: MIB });
    const holding = new AbortController();
    const first = failure(fetched(server.url('/disk.raw'), { signal: holding.signal }));
    await server.requested(1);
    const reporter = listener();
    const leaving = new AbortController();
    const second = failure(fetched(server.url('/disk.raw'), { reporter, signal: leaving.signal }));
    await reporter.hears(/waiting/);
    leaving.abort();
    expect((await second).code).toBe('ABORTED');
    holding.abort();
    await first;
    expect(await leftovers()).toEqual([]);
  });
});
