/** Images of a registry on the whole way into the cache. */
import { Buffer } from 'node:buffer';
import { randomBytes } from 'node:crypto';
import { readFile, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { expect, test } from 'vitest';
import { listCachedImages } from '../../../src/image/cache-index.js';
import { type FetchOptions, fetchImage } from '../../../src/image/cache.js';
import { SharedWork } from '../../../src/image/shared-work.js';
import { silentReporter } from '../../../src/model/event.js';
import { temporaryDirectory } from '../../support/fixtures.js';
import { OciRegistry, USER, digestOf } from '../../support/oci-registry.js';
import { Rig } from '../../support/rig.js';
import { startDockerRegistry } from '../../support/oci-docker-registry.js';

/** Raw: what a layer holds is told by its content, and not by its media type. */
const disk = Buffer.concat([Buffer.from([0, 1, 2, 3]), randomBytes(262_140)]);
const newer = Buffer.concat([Buffer.from([0, 1, 2, 3]), randomBytes(262_140)]);

interface World extends AsyncDisposable {
  readonly images: string;
  readonly home: string;
  readonly registry: OciRegistry;
  fetched(reference: string, more?: Partial<FetchOptions>): Promise<Buffer>;
}

async function world(login: 'none' | 'token' = 'none'): Promise<World> {
  const directory = await temporaryDirectory();
  const registry = await OciRegistry.start({ login });
  const images = join(directory.path, 'images');
  return {
    images,
    home: directory.path,
    registry,
    fetched: async (reference, more = {}) => {
      const path = await fetchImage(
        { url: `oci://${registry.host}/a/disk${reference}`, checksum: null },
        {
          directory: images,
          command: 'test',
          signal: new AbortController().signal,
          reporter: silentReporter,
          home: directory.path,
          architecture: 'x64',
          retryDelaysMs: [1, 1],
          shared: new SharedWork(),
          ...more,
        },
      );
      return readFile(path);
    },
    [Symbol.asyncDispose]: async () => {
      await registry[Symbol.asyncDispose]();
      await directory[Symbol.asyncDispose]();
    },
  };
}

test('a tag is fetched once, and then not asked for', async () => {
  await using place = await world();
  const { digest } = place.registry.putImage('1', disk);
  expect((await place.fetched(':1')).equals(disk)).toBe(true);
  const asked = place.registry.requests.length;
  expect((await place.fetched(':1')).equals(disk)).toBe(true);
  expect(place.registry.requests).toHaveLength(asked);
  const [image] = await listCachedImages(place.images);
  expect(image?.path).toMatch(/\/disk-1-[0-9a-f]{12}$/);
  expect(image?.record.origins).toMatchObject([
    { url: `oci://${place.registry.host}/a/disk:1`, sha256: digestOf(disk).slice('sha256:'.length), manifest: digest },
  ]);
});

test('a tag that has not moved costs one request when it is always asked for, and one that has is fetched', async () => {
  await using place = await world();
  place.registry.putImage('1', disk);
  await place.fetched(':1');
  place.registry.requests.length = 0;
  expect((await place.fetched(':1', { pull: 'always' })).equals(disk)).toBe(true);
  expect(place.registry.asked()).toEqual(['HEAD /v2/a/disk/manifests/1']);
  place.registry.putImage('1', newer);
  expect((await place.fetched(':1')).equals(disk)).toBe(true);
  expect((await place.fetched(':1', { pull: 'always' })).equals(newer)).toBe(true);
  expect((await place.fetched(':1')).equals(newer)).toBe(true);
});

test('a digest is never asked for again', async () => {
  await using place = await world();
  const { digest } = place.registry.putImage('1', disk);
  await place.fetched(`@${digest}`);
  const asked = place.registry.requests.length;
  await place.fetched(`@${digest}`, { pull: 'always' });
  expect(place.registry.requests).toHaveLength(asked);
});

test('a second tag of the same disk brings no second download', async () => {
  await using place = await world();
  place.registry.putImage('1', gzipSync(disk));
  place.registry.putImage('latest', gzipSync(disk));
  await place.fetched(':1');
  place.registry.requests.length = 0;
  expect((await place.fetched('')).equals(disk)).toBe(true);
  expect(place.registry.asked()).toEqual(['GET /v2/a/disk/manifests/latest']);
  expect(await listCachedImages(place.images)).toHaveLength(1);
});

test('a blob whose connection breaks is continued, and one that is not what its digest says leaves nothing', async () => {
  await using place = await world();
  const { registry } = place;
  registry.putImage('1', disk);
  const blob = `/v2/a/disk/blobs/${digestOf(disk)}`;
  const half = disk.subarray(0, disk.length / 2);
  let first = true;
  registry.misbehave = ({ path }) => {
    if (path !== blob || !first) return null;
    first = false;
    return { status: 200, headers: { 'content-length': `${disk.length}`, connection: 'close' }, body: half };
  };
  expect((await place.fetched(':1')).equals(disk)).toBe(true);
  const ranges = registry.requests.filter(({ path }) => path === blob).map(({ headers }) => headers.range);
  expect(ranges).toEqual([undefined, `bytes=${half.length}-`]);

  registry.putImage('2', newer);
  registry.misbehave = ({ path }) => (path.endsWith(digestOf(newer)) ? { status: 200, body: disk } : null);
  await expect(place.fetched(':2')).rejects.toMatchObject({ code: 'IMAGE_CHECKSUM' });
  expect(await readdir(place.images)).toHaveLength(2);
});

test('who is logged in with docker gets in, and who is not is told how to log in', async () => {
  await using place = await world('token');
  const { registry, home } = place;
  registry.putImage('1', disk);
  await expect(place.fetched(':1')).rejects.toMatchObject({
    code: 'IMAGE_DOWNLOAD',
    hint: expect.stringContaining(`docker login ${registry.host}`),
  });
  const auth = Buffer.from(`${USER.username}:${USER.password}`).toString('base64');
  await writeFile(join(home, 'config.json'), JSON.stringify({ auths: { [registry.host]: { auth } } }));
  expect((await place.fetched(':1', { environment: { DOCKER_CONFIG: home } })).equals(disk)).toBe(true);
});

test('what one pushes to docker-registry another brings up from there', { timeout: 60_000 }, async () => {
  await using registry = await startDockerRegistry();
  const reference = `oci://${registry.host}/team/base:1`;
  await using rig = await Rig.create();
  await rig.write('base.raw', disk);
  const pushed = await rig.vmctl(['image', 'push', 'base.raw', reference]);
  expect(pushed).toMatchObject({ exitCode: 0 });
  const byDigest = pushed.stdout.trim();
  expect(byDigest).toMatch(/^oci:\/\/127\.0\.0\.1:\d+\/team\/base@sha256:[0-9a-f]{64}$/);
  await using other = await Rig.create();
  await other.write('VMFile.kdl', `vm "web" { image-url "${reference}" }\nvm "db" { image-url "${byDigest}" }\n`);
  expect(await other.vmctl(['up'])).toMatchObject({ exitCode: 0 });
  expect(await other.states()).toEqual({ web: 'running', db: 'running' });
  const { images } = JSON.parse((await other.vmctl(['image', 'list', '--json'])).stdout);
  expect(images).toMatchObject([{ usedBy: ['db', 'web'] }]);
  expect((await readFile(images[0].path)).equals(disk)).toBe(true);
  const inspected = await other.vmctl(['image', 'inspect', reference, '--json']);
  expect(JSON.parse(inspected.stdout)).toMatchObject({ path: images[0].path, usable: true });
});
