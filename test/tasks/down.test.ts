import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { Rig } from '../support/rig.js';

test('down stops every VM of the VMFile and keeps their files', async () => {
  await using rig = await Rig.create();
  await rig.declare({ web: '', db: '' });
  await rig.vmctl(['up']);
  const { exitCode, stderr } = await rig.vmctl(['down']);
  expect(exitCode).toBe(0);
  expect(stderr).toContain('powered off by itself');
  expect(await rig.states()).toEqual({ db: 'stopped', web: 'stopped' });
});

test('down --destroy leaves no directory and no registry entry', async () => {
  await using rig = await Rig.create();
  await rig.declare({ web: '', db: '' });
  await rig.vmctl(['up']);
  expect((await rig.vmctl(['down', '--destroy'])).exitCode).toBe(0);
  expect(await rig.directories()).toEqual([]);
  expect((await rig.registry()).vms).toEqual({});
});

test('down leaves the VMs of another VMFile alone', async () => {
  await using rig = await Rig.create();
  await rig.declare({ web: '' });
  const other = await rig.write('other/VMFile.kdl', 'vm "other" { image "../disk.raw" }');
  await rig.vmctl(['up']);
  await rig.vmctl(['up', '--file', other]);
  await rig.vmctl(['down', '--destroy']);
  expect(await rig.states()).toEqual({ other: 'running' });
});

test('down works while the VMFile has an error, and for VMs that it no longer declares', async () => {
  await using rig = await Rig.create();
  await rig.declare({ web: '', old: '' });
  await rig.vmctl(['up']);
  await rig.write('VMFile.kdl', 'vm "web" {');
  expect((await rig.vmctl(['down'])).exitCode).toBe(0);
  expect(await rig.states()).toEqual({ old: 'stopped', web: 'stopped' });
});

test('what depends on others is stopped before them', async () => {
  const order: string[] = [];
  await using rig = await Rig.create({
    before: async (operation, name) => {
      if (operation === 'stop') order.push(name);
    },
  });
  await rig.declare({ db: '', app: 'depends-on "db"', web: 'depends-on "app"' });
  await rig.vmctl(['up']);
  await rig.vmctl(['down']);
  expect(order).toEqual(['web', 'app', 'db']);
});

test('a VM that cannot be stopped fails alone', async () => {
  await using rig = await Rig.create({
    before: async (operation, name) => {
      if (operation === 'stop' && name === 'db') throw new Error('stuck');
    },
  });
  await rig.declare({ web: '', db: '' });
  await rig.vmctl(['up']);
  const { exitCode, stderr } = await rig.vmctl(['down']);
  expect(exitCode).toBe(1);
  expect(stderr).toContain('stuck');
  expect(await rig.states()).toEqual({ db: 'running', web: 'stopped' });
});

test('a VM whose files are damaged is listed as such and can be destroyed', async () => {
  await using rig = await Rig.create();
  await rig.declare({ web: '', db: '' });
  await rig.vmctl(['up']);
  await writeFile(join(rig.paths.vm('web'), 'vm.json'), '{"name":');
  expect(await rig.states()).toEqual({ db: 'running', web: 'damaged' });
  const destroyed = await rig.vmctl(['destroy', 'web', '--yes']);
  expect(destroyed.exitCode).toBe(0);
  expect(await rig.directories()).toEqual(['db']);
});

test('what a killed vmctl left half-built is cleared away by the next command that changes something', async () => {
  await using rig = await Rig.create();
  await rig.declare({ web: '' });
  await rig.vmctl(['up']);
  await rig.vmctl(['stop', 'web']);
  await mkdir(rig.paths.vmStaging('db'));
  await mkdir(join(rig.paths.vms, '.removing-cache'));
  await rig.vmctl(['down']);
  expect(await rig.directories()).toEqual(['web']);
});

test('a damaged registry is set aside under a name that is told, and nothing of it is lost', async () => {
  await using rig = await Rig.create();
  await rig.declare({ web: '', db: '' });
  await rig.vmctl(['up']);
  await writeFile(rig.paths.registry, '{"schemaVersion": 1, "vms": {');
  const { exitCode, stderr, stdout } = await rig.vmctl(['list']);
  expect(exitCode).toBe(0);
  const aside = /it is now (\S+),/.exec(stderr)?.[1] ?? '';
  expect(await readFile(aside, 'utf8')).toBe('{"schemaVersion": 1, "vms": {');
  expect(stdout).toMatch(/^db\b.*running/m);
  expect(stdout).toMatch(/^web\b.*running/m);
});

test('a VM whose directory was removed by hand is no longer listed', async () => {
  await using rig = await Rig.create();
  await rig.declare({ web: '', db: '' });
  await rig.vmctl(['up']);
  await rm(rig.paths.vm('web'), { recursive: true });
  expect(await rig.states()).toEqual({ db: 'running' });
});

test('machines that were made from different versions of a VMFile, and so depend on each other, are brought down', async () => {
  await using rig = await Rig.create();
  await rig.declare({ a: 'depends-on "b"', b: '' });
  await rig.vmctl(['up']);
  await rig.declare({ a: '', b: 'depends-on "a"' });
  await rig.vmctl(['down', '--destroy', 'b']);
  await rig.vmctl(['up']);
  expect((await rig.vmctl(['down'])).exitCode).toBe(0);
  expect(await rig.states()).toEqual({ a: 'stopped', b: 'stopped' });
});

test('a machine that stops by itself while those that depend on it are stopped is no failure', async () => {
  let stopped = '';
  await using rig = await Rig.create({
    before: async (operation, name) => {
      if (operation === 'stop' && name === 'web') await writeFile(stopped, 'stopped\n');
    },
  });
  await rig.declare({ db: '', web: 'depends-on "db"' });
  await rig.vmctl(['up']);
  stopped = join(rig.paths.vm('db'), 'runtime.json');
  const { exitCode, stderr } = await rig.vmctl(['down']);
  expect(exitCode).toBe(0);
  expect(stderr).toContain('db  │ stop: skipped, already stopped');
});

test('an interrupted down leaves what it has not stopped yet, and does not wait for it', async () => {
  const interruption = new AbortController();
  await using rig = await Rig.create({
    before: async (operation, name, signal) => {
      if (operation !== 'stop' || name !== 'web') return;
      interruption.abort();
      signal.throwIfAborted();
    },
  });
  await rig.declare({ db: '', web: 'depends-on "db"' });
  await rig.vmctl(['up']);
  const { exitCode } = await rig.vmctl(['down'], { signal: interruption.signal });
  expect(exitCode).toBe(130);
  expect(await rig.states()).toEqual({ db: 'running', web: 'running' });
});

test('up and down at once on machines that depend on each other both end', async () => {
  await using rig = await Rig.create();
  await rig.declare({ db: '', web: 'depends-on "db"' });
  await rig.vmctl(['up']);
  await rig.vmctl(['stop', 'web']);
  const results = await Promise.all([rig.vmctl(['up']), rig.vmctl(['down'])]);
  expect(results.map(({ exitCode }) => exitCode)).toEqual([0, 0]);
});
