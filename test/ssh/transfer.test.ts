import { randomBytes } from 'node:crypto';
import {
  chmod,
  lstat,
  mkdir,
  mkdtemp,
  readFile,
  readdir,
  readlink,
  rm,
  stat,
  symlink,
  utimes,
  writeFile,
} from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { SshConnection } from '../../src/ssh/client.js';
import { type TreeSource, scanTree } from '../../src/ssh/tree.js';
import { GUESTS, type Guest, connectTo } from './guests.js';

const ODD_NAMES = [' ', '-rf', `it's "quoted" $(id) *.txt`, 'two\nlines', 'grüße 🚀', '.hidden', '~', 'back\\slash'];

/** Everything below a folder, one line each: kind, mode, and content or where a link leads. */
async function contentsOf(root: string, path = ''): Promise<readonly string[]> {
  const found = await lstat(join(root, path));
  const name = JSON.stringify(path);
  if (found.isSymbolicLink()) return [`${name} -> ${await readlink(join(root, path))}`];
  const mode = (found.mode & 0o777).toString(8);
  if (found.isFile()) return [`${name} ${mode} ${(await readFile(join(root, path))).toString('base64')}`];
  const inner = (await readdir(join(root, path))).toSorted((a, b) => (a < b ? -1 : 1));
  const lines = await Promise.all(inner.map((entry) => contentsOf(root, path === '' ? entry : `${path}/${entry}`)));
  return [`${name} ${mode}`, ...lines.flat()];
}

/** A folder with everything that can be copied. */
async function makeTree(root: string): Promise<void> {
  await mkdir(join(root, 'empty folder'), { recursive: true });
  await mkdir(join(root, 'deep/er/still'), { recursive: true });
  await mkdir(join(root, 'private'), { mode: 0o700 });
  for (const name of ODD_NAMES) await writeFile(join(root, name), name);
  for (const name of ODD_NAMES) await writeFile(join(root, 'deep/er/still', name), `deep ${name}`);
  await writeFile(join(root, 'empty'), '');
  await writeFile(join(root, 'run.sh'), '#!/bin/sh\n', { mode: 0o755 });
  await writeFile(join(root, 'private/key'), 'secret', { mode: 0o600 });
  await writeFile(join(root, 'several chunks'), randomBytes(1_300_000));
  await symlink('empty', join(root, 'link'));
  await symlink('/no/such place', join(root, 'dangling'));
  await symlink('../deep', join(root, 'private/to a folder'));
  await mkdir(join(root, 'read-only'));
  await writeFile(join(root, 'read-only/file'), 'x', { mode: 0o444 });
  await chmod(join(root, 'read-only'), 0o555);
  await chmod(root, 0o750);
}

describe.each(GUESTS)('against $name', ({ start }) => {
  let guest: Guest;
  let connection: SshConnection;
  let local: string;

  beforeAll(async () => {
    guest = await start();
    connection = await connectTo(guest);
  }, 30_000);

  afterAll(async () => {
    await connection?.close();
    await guest?.[Symbol.asyncDispose]();
  });

  beforeEach(async () => {
    local = await mkdtemp(join(tmpdir(), 'vmctl-transfer-'));
    await connection.exec('rm -rf work; mkdir work');
  });

  afterEach(async () => {
    await rm(local, { recursive: true, force: true });
  });

  it('a folder arrives with its names, contents, modes and links, twice if need be, and comes back the same', async () => {
    const tree = join(local, 'tree');
    await makeTree(tree);
    const summary = await connection.copyTo(tree, 'tree');
    expect(await contentsOf(join(guest.home, 'tree'))).toEqual(await contentsOf(tree));
    expect(summary).toMatchObject({ files: 21, folders: 7, links: 3 });
    await writeFile(join(tree, 'empty'), 'not empty any more');
    await writeFile(join(tree, 'read-only/one more'), 'y', { mode: 0o444 });
    await rm(join(tree, 'link'));
    await symlink('run.sh', join(tree, 'link'));
    await connection.copyTo(tree, 'tree');
    expect(await contentsOf(join(guest.home, 'tree'))).toEqual(await contentsOf(tree));
    expect(await connection.copyFrom('tree', join(local, 'back'))).toEqual(await connection.copyTo(tree, 'again'));
    expect(await contentsOf(join(local, 'back'))).toEqual(await contentsOf(tree));
    await connection.copyFrom('tree', join(local, 'back'));
    expect(await contentsOf(join(local, 'back'))).toEqual(await contentsOf(tree));
  }, 30_000);

  it('a folder is copied into the one that is there, which keeps its mode and what else is in it', async () => {
    await mkdir(join(local, 'site'));
    await writeFile(join(local, 'site/new'), 'new');
    await connection.exec('mkdir -p work/site; chmod 711 work/site; echo old > work/site/old');
    await connection.copyTo(join(local, 'site'), 'work/site');
    expect((await readdir(join(guest.home, 'work/site'))).toSorted((a, b) => (a < b ? -1 : 1))).toEqual(['new', 'old']);
    expect((await stat(join(guest.home, 'work/site'))).mode & 0o777).toBe(0o711);
    await chmod(join(local, 'site'), 0o711);
    await connection.copyFrom('work/site', join(local, 'site'));
    expect(await contentsOf(join(local, 'site'))).toEqual([
      '"" 711',
      '"new" 644 bmV3',
      expect.stringMatching(/^"old" 6[46]4 b2xkCg==$/),
    ]);
  });

  it('what killed downloads have left in the folder goes, and nothing that may still be written', async () => {
    const dead = 2 ** 30;
    const names = (pid: number) => [`.vmctl-${pid}-0123abcd.part`, `.vmctl-${pid}-fedc9876.part`] as const;
    const [rest, fresh] = names(dead);
    const stays = [fresh, names(process.pid)[0], `.vmctl-${dead}-0123abcd.parts`, `.vmctl-${dead}-0123.part`];
    const folders = [local, join(local, 'tree'), join(local, 'tree/inner')];
    await mkdir(join(local, 'tree/inner'), { recursive: true });
    for (const folder of folders) {
      for (const name of [rest, ...stays]) {
        await writeFile(join(folder, name), 'half');
        if (name !== fresh) await utimes(join(folder, name), 1, 1);
      }
    }
    await connection.exec('mkdir -p work/tree/inner; echo a > work/a');
    await connection.copyFrom('work/a', join(local, 'a'));
    await connection.copyFrom('work/tree', join(local, 'tree'));
    for (const folder of folders) {
      const left = (await readdir(folder)).filter((name) => name.startsWith('.'));
      expect(left.toSorted()).toEqual(stays.toSorted());
    }
  });

  it('many small files arrive, and progress grows up to the sum of them', async () => {
    await mkdir(join(local, 'many'));
    const names = Array.from({ length: 300 }, (_, index) => `file ${index}`);
    await Promise.all(names.map((name) => writeFile(join(local, 'many', name), name)));
    const told: [number, number][] = [];
    const { bytes } = await connection.copyTo(join(local, 'many'), 'many', {
      onProgress: (done, total) => told.push([done, total]),
    });
    expect(told.at(-1)).toEqual([bytes, bytes]);
    expect(told.map(([done]) => done)).toEqual(told.map(([done]) => done).toSorted((a, b) => a - b));
    await connection.copyFrom('many', join(local, 'back'));
    expect(await contentsOf(join(local, 'back'))).toEqual(await contentsOf(join(local, 'many')));
  }, 30_000);

  it.each([0, 1, 31 * 1024, 3 * 1024 * 1024 + 17])('a file of %i bytes comes back unchanged', async (size) => {
    const bytes = randomBytes(size);
    await writeFile(join(guest.home, 'sized'), bytes, { mode: 0o644 });
    await chmod(join(guest.home, 'sized'), 0o604);
    await connection.copyFrom('sized', join(local, 'sized'));
    expect((await readFile(join(local, 'sized'))).equals(bytes)).toBe(true);
    expect((await stat(join(local, 'sized'))).mode & 0o777).toBe(0o604);
    expect(await readdir(local)).toEqual(['sized']);
  });

  it('a file that says it has no length is read to its end', async () => {
    await connection.copyFrom('/proc/cpuinfo', join(local, 'cpuinfo'));
    expect(await readFile(join(local, 'cpuinfo'), 'utf8')).toContain('processor');
  });

  it('a link that is named itself is followed, both ways', async () => {
    await writeFile(join(local, 'file'), 'content');
    await symlink('file', join(local, 'link'));
    await connection.copyTo(join(local, 'link'), 'work/file');
    expect((await lstat(join(guest.home, 'work/file'))).isFile()).toBe(true);
    await connection.exec('ln -s file work/link');
    await connection.copyFrom('work/link', join(local, 'back'));
    expect(await contentsOf(local)).toContainEqual(expect.stringMatching(/^"back" \d+ Y29udGVudA==$/));
  });

  it('a folder onto a file and a file onto a folder are refused, and both are named', async () => {
    await mkdir(join(local, 'a/inner'), { recursive: true });
    await connection.exec('mkdir -p work/b work/c/inner work/files; touch work/file work/b/inner work/files/inner');
    for (const [from, to] of [
      [join(local, 'a'), 'work/file'],
      [join(local, 'a'), 'work/b'],
    ] as const) {
      await expect(connection.copyTo(from, to)).rejects.toMatchObject({
        code: 'TRANSFER_FAILED',
        message: expect.stringMatching(
          /^cannot upload \S+\/a(\/inner)? to work\/\S+: \S+ is there already and is not a folder$/,
        ),
      });
    }
    await expect(connection.copyFrom('work/files', join(local, 'a'))).rejects.toMatchObject({
      code: 'TRANSFER_FAILED',
      message: `cannot download work/files/inner to ${local}/a/inner: the destination is a folder`,
    });
    await writeFile(join(local, 'file'), 'mine');
    await expect(connection.copyFrom('work/c', join(local, 'file'))).rejects.toMatchObject({
      code: 'TRANSFER_FAILED',
      message: `cannot download work/c to ${local}/file: ${local}/file is there already and is not a folder`,
    });
    expect(await readFile(join(local, 'file'), 'utf8')).toBe('mine');
    expect((await readdir(local)).toSorted((a, b) => (a < b ? -1 : 1))).toEqual(['a', 'file']);
  });

  it('a download never goes through a link that lies in the folder already', async () => {
    await mkdir(join(local, 'to'));
    await mkdir(join(local, 'elsewhere'));
    await writeFile(join(local, 'elsewhere/kept'), 'mine');
    await symlink('../elsewhere', join(local, 'to/folder'));
    await connection.exec('mkdir -p work/folder; echo bad > work/folder/kept');
    await expect(connection.copyFrom('work', join(local, 'to'))).rejects.toMatchObject({ code: 'TRANSFER_FAILED' });
    expect(await readFile(join(local, 'elsewhere/kept'), 'utf8')).toBe('mine');
    await rm(join(local, 'to/folder'));
    await symlink('../elsewhere/kept', join(local, 'to/file'));
    await connection.exec('rm -r work/folder; echo new > work/file');
    await connection.copyFrom('work', join(local, 'to'));
    expect(await readFile(join(local, 'elsewhere/kept'), 'utf8')).toBe('mine');
    expect(await readFile(join(local, 'to/file'), 'utf8')).toBe('new\n');
  });

  it('sockets and named pipes are left out and told, and refused as what is to be copied', async () => {
    await mkdir(join(local, 'with'));
    await writeFile(join(local, 'with/file'), 'x');
    const server = createServer().listen(join(local, 'with/socket'));
    const skipped: string[] = [];
    try {
      await connection.copyTo(join(local, 'with'), 'with', { onSkipped: (path) => skipped.push(path) });
      await expect(connection.copyTo(join(local, 'with/socket'), 'x')).rejects.toMatchObject({
        code: 'TRANSFER_FAILED',
        message: `cannot upload ${local}/with/socket to x: it is neither a file nor a folder`,
      });
    } finally {
      server.close();
    }
    await connection.exec('mkfifo with/pipe');
    await connection.copyFrom('with', join(local, 'back'), { onSkipped: (path) => skipped.push(path) });
    expect(skipped).toEqual([join(local, 'with/socket'), 'with/pipe']);
    expect(await readdir(join(local, 'back'))).toEqual(['file']);
    await expect(connection.copyFrom('with/pipe', join(local, 'x'))).rejects.toMatchObject({ code: 'TRANSFER_FAILED' });
  });

  it('says what is missing on either side', async () => {
    await expect(connection.copyFrom('absent', join(local, 'x'))).rejects.toMatchObject({
      code: 'TRANSFER_FAILED',
      message: `cannot download absent to ${local}/x: it does not exist in the guest`,
    });
    await writeFile(join(guest.home, 'present'), 'x');
    await expect(connection.copyFrom('present', join(local, 'no/x'))).rejects.toMatchObject({
      code: 'TRANSFER_FAILED',
      message: expect.stringContaining('ENOENT'),
    });
    await expect(connection.copyTo(join(local, 'absent'), 'x')).rejects.toMatchObject({ code: 'FILE_NOT_FOUND' });
    await mkdir(join(local, 'folder'));
    await expect(connection.copyTo(join(local, 'folder'), 'no/such/folder')).rejects.toMatchObject({
      code: 'TRANSFER_FAILED',
      hint: 'Create no/such first.',
    });
  });

  it('looks at paths, links followed; the empty path is the home directory', async () => {
    await connection.exec('mkdir -p work; touch work/file; ln -s work look; ln -s nowhere work/dangling');
    expect(await connection.lookAt('')).toBe('folder');
    expect(await connection.lookAt('work/file')).toBe('file');
    expect(await connection.lookAt('look')).toBe('folder');
    expect(await connection.lookAt('work/dangling')).toBeNull();
    expect(await connection.lookAt('work/file/x')).toBeNull();
    expect(await connection.lookAt('/dev/null')).toBe('other');
  });

  it('a download that is aborted leaves nothing, and the connection can still be used', async () => {
    await writeFile(join(guest.home, 'large'), randomBytes(16 * 1024 * 1024), { mode: 0o644 });
    await writeFile(join(local, 'large'), 'what was there');
    const controller = new AbortController();
    const download = connection.copyFrom('large', join(local, 'large'), {
      signal: controller.signal,
      onProgress: () => controller.abort(),
    });
    await expect(download).rejects.toMatchObject({ code: 'ABORTED' });
    expect(await readdir(local)).toEqual(['large']);
    expect(await readFile(join(local, 'large'), 'utf8')).toBe('what was there');
    await writeFile(join(guest.home, 'after'), 'after', { mode: 0o644 });
    await connection.copyFrom('after', join(local, 'after'));
    expect(await readFile(join(local, 'after'), 'utf8')).toBe('after');
  });

  it('a download is told when the guest goes away, and leaves nothing', async () => {
    await using doomed = await start();
    const second = await connectTo(doomed);
    await writeFile(join(doomed.home, 'large'), randomBytes(16 * 1024 * 1024), { mode: 0o644 });
    const kills: Promise<void>[] = [];
    const download = second.copyFrom('large', join(local, 'large'), {
      onProgress: () => {
        if (kills.length === 0) kills.push(doomed.kill());
      },
    });
    await expect(download).rejects.toMatchObject({ code: 'SSH_TRANSPORT' });
    await Promise.all(kills);
    expect(await readdir(local)).toEqual([]);
  }, 30_000);
});

describe('a guest that lies about a folder', () => {
  const file = { kind: 'file', mode: 0o644, bytes: 0 } as const;
  const listing = (...names: readonly string[]): TreeSource => ({
    list: async () => names.map((name) => ({ name, facts: file })),
    readlink: async () => '',
  });

  it.each([[['..']], [['../evil']], [['a/b']], [['']], [['twice', 'twice']], [['nul\0']], [['not \uFFFD text']]])(
    'by listing %j is refused',
    async (names) => {
      await expect(scanTree(listing(...names), '/srv', 0o755)).rejects.toMatchObject({ code: 'TRANSFER_FAILED' });
    },
  );
});
