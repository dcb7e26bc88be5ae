import { chmod, mkdir, readFile, readdir, rm, symlink, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { createOverlay } from '../../src/image/qemu-img.js';
import { urlKey } from '../../src/image/source.js';
import { runCommand } from '../../src/util/exec.js';
import { acquireLock } from '../../src/util/lock.js';
import { putImage } from '../support/cached-image.js';
import { withoutPrivileges } from '../support/fixtures.js';
import { Rig, gate } from '../support/rig.js';

/** A process that has ended: no living one has this pid. */
const DEAD = 2 ** 22 + 1;
const OWNER = { id: '00000000-0000-4000-8000-000000000000', pid: DEAD, startTime: 'x', command: 'vmctl up' };

interface Told {
  readonly items: readonly { readonly what: string; readonly path: string; readonly result: string }[];
  readonly freedBytes: number;
  readonly troubles: readonly { readonly what: string; readonly next: string }[];
  readonly overBudgetBytes: number;
  readonly unreadable: readonly string[];
}

async function gc(rig: Rig, ...words: readonly string[]): Promise<Told> {
  const { stdout, stderr } = await rig.vmctl(['gc', '--json', ...words]);
  expect(stderr).toBe('');
  return JSON.parse(stdout);
}

/** What, and how it ended. */
const shortly = ({ items }: Told) => items.map(({ what, result }) => `${what}: ${result}`).toSorted();

const rests = (rig: Rig) => readdir(rig.paths.root, { recursive: true });

/** A download that nobody has gone on with for eight days. */
async function brokenOff(rig: Rig, key: string): Promise<string> {
  const path = join(rig.paths.images, `.${key}.part`);
  await writeFile(path, Buffer.alloc(4096, 1));
  await utimes(path, new Date(), new Date(Date.now() - 8 * 86_400_000));
  return path;
}

/** Everything that killed processes can leave, beside the VM `web`. */
async function makeRests(rig: Rig): Promise<void> {
  const { paths } = rig;
  await rig.declare({ web: '', lost: '' });
  await rig.vmctl(['up']);
  await rm(paths.vm('lost'), { recursive: true });
  await mkdir(paths.vmStaging('db'));
  await writeFile(join(paths.vmStaging('db'), 'seed.iso'), Buffer.alloc(8192, 1));
  await mkdir(join(paths.vms, '.removing-cache'));
  await mkdir(paths.vm('empty'));
  await writeFile(paths.vmLock('db'), JSON.stringify(OWNER));
  await mkdir(paths.images, { recursive: true });
  await brokenOff(rig, 'a'.repeat(64));
  await writeFile(join(paths.images, `x.json.${DEAD}-0123abcd.tmp`), '{');
  await symlink('gone.qcow2', join(paths.images, 'old-name'));
  await rm(await putImage(paths.images, 'https://example.org/half.raw'));
}

const EVERYTHING = [
  'VM rest cache',
  'VM rest db',
  'VM rest empty',
  'broken name',
  'incomplete image',
  'lock',
  'partial download',
  'registry entry lost',
  'temporary file',
];

test('a dry run tells what would go and what that frees, and changes nothing', async () => {
  await using rig = await Rig.create();
  await makeRests(rig);
  const before = await rests(rig);
  const told = await gc(rig, '--dry-run');
  expect(shortly(told)).toEqual(EVERYTHING.map((what) => `${what}: would be removed`));
  expect(told.freedBytes).toBeGreaterThan(12_000);
  expect(await rests(rig)).toEqual(before);
  expect(Object.keys((await rig.registry()).vms)).toContain('lost');
});

test('gc removes what killed processes have left, and leaves the VM as it was', async () => {
  await using rig = await Rig.create();
  await makeRests(rig);
  expect(shortly(await gc(rig))).toEqual(EVERYTHING.map((what) => `${what}: removed`));
  expect(await rig.directories()).toEqual(['web']);
  expect(await readdir(rig.paths.images)).toEqual([]);
  expect(await readdir(rig.paths.locks)).toEqual([]);
  expect(Object.keys((await rig.registry()).vms)).toEqual(['web']);
  expect(await rig.states()).toEqual({ web: 'running' });
  expect(shortly(await gc(rig))).toEqual([]);
});

test('gc tells in a table what it removed and why, and how much that freed', async () => {
  await using rig = await Rig.create();
  await mkdir(rig.paths.vmStaging('db'), { recursive: true });
  const dry = await rig.vmctl(['gc', '-n']);
  const path = rig.paths.vmStaging('db');
  expect(dry.stdout).toMatch(/^WHAT {8}SIZE +RESULT +PATH +WHY\nVM rest db {2}/);
  expect(dry.stdout).toContain(`would be removed  ${path}  vmctl was killed while it made this VM\n`);
  expect(dry.stderr).toMatch(/^note: 1 thing would be removed, which frees .*; nothing was changed\n$/);
  const real = await rig.vmctl(['gc']);
  expect(real.stdout).toContain(`removed  ${path}  vmctl was killed while it made this VM\n`);
  expect(real.stderr).toMatch(/^note: 1 thing removed, .* freed\n$/);
  expect(await rig.vmctl(['gc'])).toEqual({ exitCode: 0, stdout: '', stderr: 'note: there is nothing to remove\n' });
});

test('gc in a state directory that does not exist makes none', async () => {
  await using rig = await Rig.create();
  expect((await rig.vmctl(['gc'])).exitCode).toBe(0);
  expect(await readdir(rig.root)).toEqual(['project']);
});

test('a download that was broken off stays for a week, so that it can be continued; who prunes images has its space now', async () => {
  await using rig = await Rig.create();
  await mkdir(rig.paths.images, { recursive: true });
  const path = await brokenOff(rig, 'a'.repeat(64));
  await utimes(path, new Date(), new Date(Date.now() - 6 * 86_400_000));
  await writeFile(`${path}.json`, '{}');
  await utimes(`${path}.json`, new Date(), new Date(Date.now() - 6 * 86_400_000));
  expect(shortly(await gc(rig))).toEqual([]);
  const { stdout } = await rig.vmctl(['image', 'prune', '--json']);
  expect(shortly(JSON.parse(stdout))).toEqual(['partial download: removed']);
  expect(await readdir(rig.paths.images)).toEqual([]);
});

test('what a living vmctl works on stays: a VM that is being made, its lock, a download', async () => {
  const [reached, go] = [gate(), gate()];
  await using rig = await Rig.create({
    before: async (operation) => {
      if (operation !== 'prepare') return;
      reached.open();
      await go.passed;
    },
  });
  await rig.declare({ web: '' });
  const up = rig.vmctl(['up']);
  await reached.passed;
  const url = new URL('https://example.org/disk.raw');
  const release = await acquireLock(join(rig.paths.images, `.${urlKey(url)}.lock`), { command: 'vmctl up' });
  await brokenOff(rig, urlKey(url));
  expect(shortly(await gc(rig))).toEqual([]);
  go.open();
  expect((await up).exitCode).toBe(0);
  await release();
  expect(shortly(await gc(rig))).toEqual(['partial download: removed']);
  expect(await rig.states()).toEqual({ web: 'running' });
});

test('an image that a running up may be using stays, although nothing stands on it yet', async () => {
  const [reached, go] = [gate(), gate()];
  await using rig = await Rig.create({
    before: async (operation) => {
      if (operation !== 'prepare') return;
      reached.open();
      await go.passed;
    },
  });
  const image = await putImage(rig.paths.images, 'https://example.org/a.raw', { unusedDays: 50 });
  await putImage(rig.paths.images, 'https://example.org/b.raw', { unusedDays: 50 });
  await rig.write('VMFile.kdl', `vm "web" { image ${JSON.stringify(image)} }`);
  const up = rig.vmctl(['up']);
  await reached.passed;
  const told = await gc(rig, '--images-budget', '0b', '--images-older-than', '0');
  expect(told.items.map(({ path }) => path)).toEqual([expect.stringContaining('/b-')]);
  go.open();
  expect((await up).exitCode).toBe(0);
  expect(shortly(await gc(rig, '--images-budget', '0b'))).toEqual([]);
  expect(await readFile(image)).toHaveLength(65_536);
});

test('images go by age and budget only where that is asked for, and never from under a disk', async () => {
  await using rig = await Rig.create();
  const { images } = rig.paths;
  const used = await putImage(images, 'https://example.org/used.raw', { unusedDays: 90 });
  await putImage(images, 'https://example.org/old.raw', { unusedDays: 40 });
  await putImage(images, 'https://example.org/new.raw', { unusedDays: 1 });
  // A disk that no registry knows of, in a directory that is damaged.
  await mkdir(rig.paths.vm('lost'), { recursive: true });
  const overlay = { base: { path: used, format: 'raw', virtualBytes: 65_536 }, sizeBytes: null } as const;
  await createOverlay({ ...overlay, path: join(rig.paths.vm('lost'), 'overlay.qcow2') });
  expect(shortly(await gc(rig))).toEqual([]);
  const byAge = await gc(rig, '--images-older-than', '30d');
  expect(byAge.items).toMatchObject([{ what: 'image', path: expect.stringContaining('/old-'), result: 'removed' }]);
  expect(byAge.troubles).toEqual([
    {
      what: `VM "lost" is damaged: ${join(rig.paths.vm('lost'), 'vm.json')} is missing or unreadable`,
      next: 'vmctl destroy lost',
    },
  ]);
  const byBudget = await rig.vmctl(['gc', '--json'], { variables: { VMCTL_IMAGES_BUDGET: '1KiB' } });
  expect(JSON.parse(byBudget.stdout)).toMatchObject({
    items: [{ what: 'image', path: expect.stringContaining('/new-'), result: 'removed' }],
    overBudgetBytes: expect.any(Number),
  });
  expect((await readdir(images)).toSorted()).toEqual(
    [used, `${used}.json`].map((path) => path.slice(images.length + 1)),
  );
});

test('while a disk does not tell what it stands on, no image goes', async () => {
  await using rig = await Rig.create();
  const image = await putImage(rig.paths.images, 'https://example.org/a.raw', { unusedDays: 40 });
  const overlay = join(rig.paths.vm('web'), 'overlay.qcow2');
  await mkdir(rig.paths.vm('web'), { recursive: true });
  await writeFile(overlay, 'QFI\xfb');
  expect((await rig.vmctl(['gc'])).stderr).not.toContain('no image is removed');
  const { stderr } = await rig.vmctl(['gc', '--images-older-than', '1d']);
  expect(stderr).toContain(`no image is removed: ${overlay} does not tell which one it stands on`);
  expect(await readFile(image)).toHaveLength(65_536);
});

test('the torn disk of a VM that was being made keeps no image', async () => {
  await using rig = await Rig.create();
  await putImage(rig.paths.images, 'https://example.org/a.raw', { unusedDays: 40 });
  await mkdir(rig.paths.vmStaging('web'), { recursive: true });
  await writeFile(join(rig.paths.vmStaging('web'), 'overlay.qcow2'), 'QFI\xfb');
  const told = await gc(rig, '--images-older-than', '1d');
  expect(shortly(told)).toEqual(['VM rest web: removed', 'image: removed']);
  expect(told.unreadable).toEqual([]);
});

test('one thing that cannot be removed is an error of its own, and the others go', async () => {
  await using rig = await Rig.create();
  const { paths } = rig;
  const inside = join(paths.vmStaging('a'), 'not empty');
  await mkdir(inside, { recursive: true });
  await writeFile(join(inside, 'file'), '');
  await mkdir(paths.vmStaging('b'));
  // Root may remove anything, so this is done as nobody, who owns all but the contents of one folder.
  if (process.geteuid?.() === 0) await runCommand('chown', ['-R', '65534', rig.root]);
  await chmod(inside, 0o500);
  const { exitCode, stdout, stderr } = await withoutPrivileges(() => rig.vmctl(['gc']));
  await chmod(inside, 0o700);
  expect(exitCode).toBe(1);
  expect(stderr).toMatch(new RegExp(`error: cannot remove ${paths.vmStaging('a')}: EACCES`));
  expect(stdout).toMatch(/VM rest a +\S+ \S+ +failed/);
  expect(stdout).toMatch(/VM rest b +\S+ \S+ +removed/);
  expect(await rig.directories()).toEqual(['.staging-a']);
});

test('what cannot be looked at is told, and does not hide the rest', async () => {
  await using rig = await Rig.create();
  const { paths } = rig;
  await mkdir(paths.vmStaging('a'), { recursive: true });
  // A folder in the place of a lock can be neither read nor taken.
  await mkdir(paths.vmLock('a'), { recursive: true });
  await mkdir(paths.vmStaging('b'));
  const told = await gc(rig);
  expect(shortly(told)).toEqual(['VM rest b: removed']);
  expect(told.troubles).toEqual([
    { what: expect.stringContaining(`${paths.vmStaging('a')} cannot be looked at: `), next: expect.any(String) },
    { what: expect.stringContaining(`${paths.locks} cannot be looked at: `), next: expect.any(String) },
  ]);
});

test('a damaged list of VMs makes nothing garbage that it may have had', async () => {
  await using rig = await Rig.create();
  await rig.declare({ web: '' });
  await rig.vmctl(['up']);
  await mkdir(rig.paths.vm('unknown'));
  await writeFile(rig.paths.registry, '{');
  const told = await gc(rig);
  expect(told).toMatchObject({
    items: [],
    troubles: [{ what: `${rig.paths.registry} is damaged`, next: 'vmctl list' }, { next: 'vmctl destroy unknown' }],
  });
  expect(await rig.directories()).toEqual(['unknown', 'web']);
});

test.each([
  [['--images-older-than', '30'], 'It must be a duration such as "30d" or "12h".'],
  [['--images-budget', 'much'], 'It must be a size such as "20GiB".'],
])('%j has exit code 2 and says what is wrong', async (words, expected) => {
  await using rig = await Rig.create();
  const { exitCode, stderr } = await rig.vmctl(['gc', ...words]);
  expect(exitCode).toBe(2);
  expect(stderr).toContain(expected);
});

test('a lock of the image cache that a living process holds is left alone', async () => {
  await using rig = await Rig.create();
  const release = await acquireLock(join(rig.paths.images, '.use.lock'), { command: 'vmctl up' });
  expect((await gc(rig)).items).toEqual([]);
  await release();
});
