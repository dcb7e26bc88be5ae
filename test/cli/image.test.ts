import { mkdir, readFile, readdir, readlink, stat, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { createOverlay } from '../../src/image/qemu-img.js';
import { runCommand } from '../../src/util/exec.js';
import { putImage, spoilImage } from '../support/cached-image.js';
import { startHttpServer } from '../support/http-server.js';
import { Rig } from '../support/rig.js';

const DISK = new Uint8Array(65_536).fill(7, 0, 4);
const LONG_AGO = new Date('2020-01-02T03:04:05Z');

test('image list tells what there is, how large, since when unused, and which VMs stand on it', async () => {
  await using rig = await Rig.create();
  const { images } = rig.paths;
  const used = await putImage(images, 'https://example.org/base.raw?token=secret', { unusedDays: 3 });
  await putImage(images, 'https://example.org/other.raw', { unusedDays: 40 });
  await rig.write(
    'VMFile.kdl',
    `vm "web" { image ${JSON.stringify(used)} }\nvm "db" { image ${JSON.stringify(used)} }`,
  );
  expect((await rig.vmctl(['up'])).exitCode).toBe(0);
  const { stdout, stderr } = await rig.vmctl(['image', 'list']);
  expect(stderr).toBe('');
  const [header, base, other] = stdout.split('\n');
  expect(header).toMatch(/^NAME +FORMAT +ON DISK +VIRTUAL +CHECKSUM +LAST USED +USED BY +URL$/);
  expect(base).toMatch(
    /^- +raw +64 KiB +64 KiB +sha256:[0-9a-f]{12} +less than a minute ago +db, web +https:\/\/example\.org\/base\.raw\?…$/,
  );
  expect(other).toMatch(/^- +raw +64 KiB +64 KiB +sha256:[0-9a-f]{12} +40 days ago +- +https:/);
  const json = JSON.parse((await rig.vmctl(['image', 'list', '--json'])).stdout);
  expect(json).toMatchObject({
    schemaVersion: 1,
    images: [
      { path: used, names: [], format: 'raw', diskBytes: 65_536, virtualBytes: 65_536, usedBy: ['db', 'web'] },
      { usedBy: [] },
    ],
  });
});

test('image list of an empty cache says what to do, and makes no directory', async () => {
  await using rig = await Rig.create();
  const { stdout, stderr } = await rig.vmctl(['image', 'list']);
  expect(stdout).toBe('');
  expect(stderr).toContain('vmctl image pull URL');
  expect(await readdir(rig.root)).toEqual(['project']);
});

test('a pull under a name makes a link of that name, and a later one moves it', async () => {
  await using rig = await Rig.create();
  await using server = await startHttpServer();
  server.serve('/one.raw', { body: Buffer.from(DISK) });
  server.serve('/two.raw', { body: Buffer.concat([DISK, DISK]) });
  const first = await rig.vmctl(['image', 'pull', server.url('/one.raw'), '--name', 'base']);
  expect(first).toMatchObject({ exitCode: 0, stdout: `${join(rig.paths.images, 'base')}\n` });
  expect(await readFile(join(rig.paths.images, 'base'))).toEqual(Buffer.from(DISK));
  expect((await rig.vmctl(['image', 'list'])).stdout).toMatch(/^base {2}raw/m);
  const second = await rig.vmctl(['image', 'pull', server.url('/two.raw'), '--name', 'base', '--json']);
  expect(JSON.parse(second.stdout)).toMatchObject({ name: 'base', link: join(rig.paths.images, 'base') });
  expect(await readlink(join(rig.paths.images, 'base'))).toMatch(/^two-/);
  const { images } = JSON.parse((await rig.vmctl(['image', 'list', '--json'])).stdout);
  expect(images).toMatchObject([{ names: [] }, { names: ['base'] }]);
  // What has a name is kept; the other may go.
  const pruned = await rig.vmctl(['image', 'prune', '--older-than', '0s', '--json']);
  expect(JSON.parse(pruned.stdout)).toMatchObject({ items: [{ path: expect.stringContaining('/one-') }] });
});

test.each(['', 'a/b', '.hidden', 'x.json'])(
  'a pull under the name %j is refused before anything is fetched',
  async (name) => {
    await using rig = await Rig.create();
    const { exitCode, stderr } = await rig.vmctl(['image', 'pull', 'http://127.0.0.1:9/x', '--name', name]);
    expect(exitCode).toBe(2);
    expect(stderr).toContain(`${JSON.stringify(name)} cannot be the name of an image`);
  },
);

test('a name does not replace a file that is there', async () => {
  await using rig = await Rig.create();
  await using server = await startHttpServer();
  server.serve('/one.raw', { body: Buffer.from(DISK) });
  await mkdir(rig.paths.images, { recursive: true });
  await writeFile(join(rig.paths.images, 'mine'), 'precious');
  const { exitCode } = await rig.vmctl(['image', 'pull', server.url('/one.raw'), '--name', 'mine']);
  expect(exitCode).toBe(2);
  expect(await readFile(join(rig.paths.images, 'mine'), 'utf8')).toBe('precious');
});

test('each use of an image is noted: by its URL, by its path, and by its name', async () => {
  await using rig = await Rig.create();
  await using server = await startHttpServer();
  server.serve('/one.raw', { body: Buffer.from(DISK) });
  const url = server.url('/one.raw');
  const pulled = await rig.vmctl(['image', 'pull', url, '--name', 'base', '--json']);
  const { path }: { path: string } = JSON.parse(pulled.stdout);
  for (const [vm, source] of [
    ['by-url', `image-url ${JSON.stringify(url)}`],
    ['by-path', `image ${JSON.stringify(path)}`],
    ['by-name', `image ${JSON.stringify(join(rig.paths.images, 'base'))}`],
  ]) {
    await utimes(`${path}.json`, LONG_AGO, LONG_AGO);
    await rig.write('VMFile.kdl', `vm "${vm}" { ${source} }`);
    expect((await rig.vmctl(['up'])).exitCode).toBe(0);
    expect({ vm, used: (await stat(`${path}.json`)).mtimeMs > LONG_AGO.getTime() }).toEqual({ vm, used: true });
  }
  expect(server.requests).toHaveLength(1);
});

test('image inspect tells what an image is, by its path, its URL or its name', async () => {
  await using rig = await Rig.create();
  const url = 'https://example.org/base.raw';
  const cached = await putImage(rig.paths.images, url);
  const byUrl = JSON.parse((await rig.vmctl(['image', 'inspect', url, '--json'])).stdout);
  expect(byUrl).toMatchObject({ schemaVersion: 1, path: cached, usable: true, format: 'raw', virtualBytes: 65_536 });
  expect(byUrl.cache).toEqual({ url, names: [], usedBy: [] });
  await runCommand('qemu-img', ['create', '-q', '-f', 'qcow2', join(rig.project, 'disk.qcow2'), '3M']);
  const byPath = await rig.vmctl(['image', 'inspect', 'disk.qcow2']);
  expect(byPath).toMatchObject({ exitCode: 0, stderr: '' });
  expect(byPath.stdout).toMatch(/^path +\/.*disk\.qcow2\n(?:.*\n)*usable +yes\nformat +qcow2\ndisk +3 MiB\n/);
  expect(byPath.stdout).toMatch(/^clusters +64 KiB$/m);
});

test('image inspect tells why a file is refused, and opens nothing that it names', async () => {
  await using rig = await Rig.create();
  const disk = join(rig.project, 'overlay.qcow2');
  const base = { path: join(rig.project, 'disk.raw'), format: 'raw', virtualBytes: 1024 ** 2 } as const;
  await createOverlay({ base, path: disk, sizeBytes: null });
  const { exitCode, stdout } = await rig.vmctl(['image', 'inspect', 'overlay.qcow2']);
  expect(exitCode).toBe(1);
  expect(stdout).toContain(`usable   no: it has a backing file (${JSON.stringify(base.path)})`);
  expect(stdout).toContain('qemu-img convert -O qcow2');
  const json = JSON.parse((await rig.vmctl(['image', 'inspect', 'overlay.qcow2', '--json'])).stdout);
  expect(json).toMatchObject({ usable: false, problem: expect.stringContaining('backing file'), cache: null });
});

test('image inspect of what is not there says where it looked', async () => {
  await using rig = await Rig.create();
  const { exitCode, stderr } = await rig.vmctl(['image', 'inspect', 'nothing']);
  expect(exitCode).toBe(1);
  expect(stderr).toContain(`there is no file ${join(rig.project, 'nothing')}, and no image "nothing" in the cache`);
});

test('image prune leaves everything but images alone, and a dry run those too', async () => {
  await using rig = await Rig.create();
  await mkdir(rig.paths.vmStaging('db'), { recursive: true });
  const old = await putImage(rig.paths.images, 'https://example.org/old.raw', { unusedDays: 40 });
  const dry = await rig.vmctl(['image', 'prune', '--dry-run', '--older-than', '30d']);
  expect(dry.stdout).toContain(`would be removed  ${old}  no VM has used it for 40 days\n`);
  expect(await readdir(rig.paths.images)).toHaveLength(2);
  expect((await rig.vmctl(['image', 'prune', '--older-than', '30d'])).exitCode).toBe(0);
  expect(await readdir(rig.paths.images)).toEqual([]);
  expect(await rig.directories()).toEqual(['.staging-db']);
});

test('image list --verify reads every image, and one that is damaged is told and fetched anew', async () => {
  await using rig = await Rig.create();
  await using server = await startHttpServer();
  server.serve('/one.raw', { body: Buffer.from(DISK) });
  const { stdout: path } = await rig.vmctl(['image', 'pull', server.url('/one.raw')]);
  expect(await rig.vmctl(['image', 'list', '--verify'])).toMatchObject({ exitCode: 0 });
  await spoilImage(path.trim(), Buffer.alloc(DISK.length, 7));
  const told = await rig.vmctl(['image', 'list', '--verify']);
  expect(told.exitCode).toBe(1);
  expect(told.stdout).toMatch(/^- +DAMAGED /m);
  expect(told.stderr).toContain(`is damaged; whoever wants ${server.url('/one.raw')} the next time gets it anew`);
  const again = await rig.vmctl(['image', 'list', '--json']);
  expect(JSON.parse(again.stdout)).toMatchObject({ images: [{ damaged: true, path: path.trim() }] });
  await rig.vmctl(['image', 'pull', server.url('/one.raw')]);
  expect(await rig.vmctl(['image', 'list', '--verify'])).toMatchObject({ exitCode: 0 });
});

test('image pull takes a checksum, a policy, and the names of presets', async () => {
  await using rig = await Rig.create();
  await using server = await startHttpServer();
  server.serve('/one.raw', { body: Buffer.from(DISK) });
  const pull = (...words: readonly string[]) => rig.vmctl(['image', 'pull', ...words]);
  const wrong = await pull(server.url('/one.raw'), '--checksum', `sha256:${'0'.repeat(64)}`);
  expect(wrong).toMatchObject({ exitCode: 1, stdout: '' });
  expect(wrong.stderr).toContain('another sha256 checksum than expected');
  const bad = await pull(server.url('/one.raw'), '--checksum', 'md5:abc');
  expect(bad).toMatchObject({ exitCode: 2 });
  expect(bad.stderr).toContain('--checksum must be a checksum: "md5:abc", but `md5` is no algorithm that vmctl checks');
  const never = await pull('debian-12', '--pull', 'never');
  expect(never.exitCode).toBe(1);
  expect(never.stderr).toMatch(
    /the image https:\/\/\S+debian-12\S+ is not in the cache, and nothing may be downloaded/,
  );
  const unknown = await pull('debain-12');
  expect(unknown).toMatchObject({ exitCode: 2 });
  expect(unknown.stderr).toContain('Did you mean "debian-12"?');
  expect((await pull(server.url('/one.raw'), '--pull', 'sometimes')).exitCode).toBe(2);
});
