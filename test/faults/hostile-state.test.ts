/**
 * A state directory that somebody has edited by hand to harm: whatever its files say, and whatever names a command line
 * has, no command touches a file outside of it.
 */
import { lstat, mkdir, readFile, readdir, readlink, symlink, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { expect, test, vi } from 'vitest';
import { VM_FILES } from '../../src/paths.js';
import { vmHandle, vmSpec } from '../support/fixtures.js';
import { Rig } from '../support/rig.js';

vi.setConfig({ testTimeout: 120_000 });

/** Everything below a folder but the state directory: kind, time and content. */
async function picture(folder: string, without: string): Promise<Readonly<Record<string, string>>> {
  const seen: Record<string, string> = {};
  for (const name of (await readdir(folder)).toSorted()) {
    const path = join(folder, name);
    if (path === without) continue;
    const facts = await lstat(path);
    seen[path] = `${facts.mode} ${facts.isDirectory() && path === dirname(without) ? '' : facts.mtimeMs}`;
    if (facts.isDirectory()) Object.assign(seen, await picture(path, without));
    else seen[path] += ` ${facts.isSymbolicLink() ? await readlink(path) : await readFile(path, 'latin1')}`;
  }
  return seen;
}

/** Folders and files beside the state directory, as far up as hostile names lead, that look worth a visit. */
async function putVictims(rig: Rig): Promise<void> {
  for (const folder of [join(rig.root, 'victim'), join(rig.root, 'data', 'victim'), join(rig.root, 'data', 'vms')]) {
    await mkdir(folder, { recursive: true });
    await writeFile(join(folder, 'precious'), 'mine');
    const handle = vmHandle({ name: 'victim', directory: folder });
    await writeFile(join(folder, VM_FILES.handle), JSON.stringify(handle));
    await writeFile(join(folder, VM_FILES.runtime), 'running\n');
  }
}

const NAMES = [
  '..',
  '.',
  '../..',
  '../../victim',
  '../../../victim',
  '../../../../victim/new',
  '/etc',
  'web/../../../victim',
  '__proto__',
  'constructor',
  '.staging-web',
  ' ',
  '',
  '-rf',
  'a\nb',
];

/** Of these a file can have any. */
const RECORDED = ['..', '../../../victim', '../../../../victim/new', 'a\0b', '__proto__'];

const COMMANDS: readonly (readonly string[])[] = [
  ['list'],
  ['list', '--json'],
  ['status', 'web'],
  ['doctor'],
  ['gc', '--dry-run'],
  ['gc', '--kept', '--images-older-than', '0s'],
  ['image', 'list', '--verify'],
  ['image', 'prune'],
  ['stop', 'web'],
  ['up'],
  ['reload', 'web'],
  ['down', '--destroy'],
  ['gc'],
];

async function runAll(rig: Rig, commands: readonly (readonly string[])[]): Promise<void> {
  for (const words of commands) {
    const { exitCode, stderr } = await rig.vmctl(words);
    expect({ words, exitCode, stderr }).toEqual({
      words,
      exitCode: expect.any(Number),
      stderr: expect.not.stringContaining('Internal error'),
    });
  }
}

/** A rig with a VM that was made properly, and things outside that are not vmctl's. */
async function makeHostage(): Promise<Rig> {
  const rig = await Rig.create();
  await rig.declare({ web: '' });
  expect((await rig.vmctl(['up'])).exitCode).toBe(0);
  await putVictims(rig);
  return rig;
}

const entry = (name: string, directory: string) => ({
  name,
  backend: 'noop',
  directory,
  project: null,
  createdAt: '2025-01-02T03:04:05.678Z',
});

test.each<[string, (name: string, rig: Rig) => readonly [string, object]]>([
  ['as the key and the name', (name, rig) => [name, entry(name, rig.paths.vm(name))]],
  ['as the key alone', (name, rig) => [name, entry('web', rig.paths.vm('web'))]],
  ['as the name alone', (name, rig) => ['web', entry(name, rig.paths.vm(name))]],
])('vms.json with names that lead out of it, %s', async (_where, make) => {
  await using rig = await makeHostage();
  const before = await picture(rig.root, rig.paths.root);
  for (const name of RECORDED) {
    const [key, value] = make(name, rig);
    const vms = JSON.parse(JSON.stringify({ web: entry('web', rig.paths.vm('web')) }));
    Object.defineProperty(vms, key, { value, enumerable: true, configurable: true });
    await writeFile(rig.paths.registry, JSON.stringify({ schemaVersion: 1, vms }));
    await runAll(rig, COMMANDS);
    expect({ name, ...(await picture(rig.root, rig.paths.root)) }).toEqual({ name, ...before });
  }
});

test('vms.json and vm.json with directories elsewhere', async () => {
  await using rig = await makeHostage();
  const before = await picture(rig.root, rig.paths.root);
  for (const directory of [join(rig.root, 'victim'), '../victim', '/', '', '.']) {
    const handle = vmHandle({
      name: 'web',
      directory,
      spec: vmSpec({ name: 'web', project: join(rig.project, 'VMFile.kdl') }),
    });
    await mkdir(rig.paths.vm('web'), { recursive: true });
    await writeFile(join(rig.paths.vm('web'), VM_FILES.handle), JSON.stringify(handle));
    await writeFile(rig.paths.registry, JSON.stringify({ schemaVersion: 1, vms: { web: entry('web', directory) } }));
    await runAll(rig, COMMANDS);
    expect({ directory, ...(await picture(rig.root, rig.paths.root)) }).toEqual({ directory, ...before });
  }
});

test('links that lead elsewhere, where only vmctl puts something', async () => {
  await using rig = await makeHostage();
  const victim = join(rig.root, 'victim');
  const before = await picture(rig.root, rig.paths.root);
  await mkdir(rig.paths.runs, { recursive: true });
  await mkdir(rig.paths.images, { recursive: true });
  for (const place of [
    join(rig.paths.vms, '.staging-victim'),
    join(rig.paths.vms, '.removing-victim'),
    join(rig.paths.vms, '.removing-web'),
    join(rig.paths.runs, 'victim'),
    join(rig.paths.images, 'victim'),
    rig.paths.vmLock('victim'),
  ]) {
    await symlink(victim, place);
  }
  await runAll(rig, [...COMMANDS, ['gc', '--kept']]);
  const after = await picture(rig.root, rig.paths.root);
  expect(after).toEqual(before);
});

test('records of the image cache that name files elsewhere', async () => {
  await using rig = await makeHostage();
  const before = await picture(rig.root, rig.paths.root);
  await mkdir(rig.paths.images, { recursive: true });
  for (const name of ['../../../victim/precious', '../../victim/precious', join(rig.root, 'victim', 'precious')]) {
    const record = {
      schemaVersion: 1,
      file: { name, sha256: '0'.repeat(64), bytes: 4 },
      damagedAt: null,
      origins: [
        {
          key: 'k',
          url: 'https://example.org/x',
          fetchedAt: '2001-01-01T00:00:00Z',
          etag: null,
          lastModified: null,
          sha256: '0'.repeat(64),
          sha512: null,
          checksumUrl: null,
          manifest: null,
          bytes: 4,
        },
      ],
    };
    await writeFile(join(rig.paths.images, 'x.qcow2.json'), JSON.stringify(record));
    await writeFile(join(rig.paths.images, `${name.split('/').at(-1)}.json`), JSON.stringify(record));
    await runAll(rig, COMMANDS);
    expect({ name, ...(await picture(rig.root, rig.paths.root)) }).toEqual({ name, ...before });
  }
});

test('names on the command line that lead out of the state directory', async () => {
  await using rig = await makeHostage();
  const before = await picture(rig.root, rig.paths.root);
  for (const name of NAMES) {
    await runAll(rig, [
      ...['status', 'log', 'start', 'stop', 'suspend', 'resume', 'up', 'reload', 'provision', 'down'].map((word) => [
        word,
        '--',
        name,
      ]),
      ['destroy', '--yes', '--', name],
      ['down', '--destroy', '--', name],
      ['cp', 'VMFile.kdl', `${name}:x`],
      ['create', '--name', name, '--image', 'disk.raw'],
      ['image', 'inspect', '--', name],
    ]);
    expect({ name, ...(await picture(rig.root, rig.paths.root)) }).toEqual({ name, ...before });
  }
});
