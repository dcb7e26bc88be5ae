import { expect, test } from 'vitest';
import { Rig, gate } from '../support/rig.js';

test('up creates and starts every VM of the VMFile, and list says so', async () => {
  await using rig = await Rig.create();
  await rig.declare({ web: '', db: '' });
  const result = await rig.vmctl(['up']);
  expect(result.exitCode).toBe(0);
  expect(result.stdout).toBe('');
  expect(result.stderr.trimEnd().split('\n').at(-1)).toBe('2 up');
  expect(await rig.states()).toEqual({ db: 'running', web: 'running' });
});

test('up leaves a running VM alone and says that it is already up', async () => {
  const operations: string[] = [];
  await using rig = await Rig.create({
    before: async (operation, name) => void operations.push(`${operation} ${name}`),
  });
  await rig.declare({ web: '' });
  await rig.vmctl(['up']);
  operations.length = 0;
  const again = await rig.vmctl(['up']);
  expect(operations).toEqual([]);
  expect(again.exitCode).toBe(0);
  expect(again.stderr).toContain('1 already up');
});

test('up starts a stopped VM and provisions it again', async () => {
  await using rig = await Rig.create();
  await rig.declare({ web: 'ssh\nprovision "shell" { inline "echo hello" }' });
  expect((await rig.vmctl(['up'])).stderr).toContain('shell echo hello');
  await rig.vmctl(['down']);
  expect(await rig.states()).toEqual({ web: 'stopped' });
  const again = await rig.vmctl(['up']);
  expect(again.stderr).toContain('resolve: skipped, already there');
  expect(again.stderr).toContain('shell echo hello');
  expect(await rig.states()).toEqual({ web: 'running' });
});

test('up continues a VM that runs but was not provisioned', async () => {
  await using rig = await Rig.create();
  await rig.declare({ web: 'ssh\nprovision "shell" { inline "echo hello" }' });
  const first = await rig.vmctl(['up', '--no-provision']);
  expect(first.stderr).not.toContain('echo hello');
  const second = await rig.vmctl(['up']);
  expect(second.stderr).toContain('start: skipped, already running');
  expect(second.stderr).toContain('shell echo hello');
});

test('the steps of two VMs overlap', async () => {
  const starting = new Set<string>();
  const both = gate();
  await using rig = await Rig.create({
    before: async (operation, name) => {
      if (operation !== 'start') return;
      starting.add(name);
      if (starting.size === 2) both.open();
      // Neither start ends before both have begun: one after the other would wait for ever.
      await both.passed;
    },
  });
  await rig.declare({ web: '', db: '' });
  expect((await rig.vmctl(['up'])).exitCode).toBe(0);
});

test('with --parallel 1 boots do not overlap, and other steps still do', async () => {
  let booting = 0;
  let most = 0;
  const preparing = new Set<string>();
  const both = gate();
  await using rig = await Rig.create({
    before: async (operation, name) => {
      if (operation === 'prepare') {
        preparing.add(name);
        if (preparing.size === 2) both.open();
        await both.passed;
      }
      if (operation !== 'start') return;
      booting += 1;
      most = Math.max(most, booting);
      await new Promise((resolve) => setImmediate(resolve));
      booting -= 1;
    },
  });
  await rig.declare({ web: '', db: '' });
  expect((await rig.vmctl(['up', '--parallel', '1'])).exitCode).toBe(0);
  expect(most).toBe(1);
});

test('a VM is started only after those that it depends on are provisioned', async () => {
  const order: string[] = [];
  await using rig = await Rig.create({
    before: async (operation, name) => {
      if (operation === 'start') order.push(name);
    },
  });
  await rig.declare({ app: 'depends-on "db" "cache"', db: 'depends-on "cache"', cache: '' });
  const { exitCode, stderr } = await rig.vmctl(['up']);
  expect(exitCode).toBe(0);
  expect(order).toEqual(['cache', 'db', 'app']);
  const lines = stderr.split('\n').map((line) => line.replaceAll(/\s+/g, ' '));
  const provisioned = lines.findIndex((line) => line.startsWith('db │ provision: 0 steps'));
  expect(provisioned).toBeGreaterThan(-1);
  expect(
    lines.findIndex((line) => line === 'app │ start: done (0 ms)' || line.startsWith('app │ start: done')),
  ).toBeGreaterThan(provisioned);
});

test('a failed VM leaves its dependents not started, naming the chain, and lets the others go on', async () => {
  await using rig = await Rig.create({
    before: async (operation, name) => {
      if (operation === 'start' && name === 'db') throw new Error('no power');
    },
  });
  await rig.declare({ web: 'depends-on "app"', app: 'depends-on "db"', db: '', other: '' });
  const { exitCode, stderr } = await rig.vmctl(['up']);
  expect(exitCode).toBe(1);
  expect(stderr).toContain('"app" was not started, because "db" failed');
  expect(stderr).toContain('"web" was not started, because "app" failed: "app" was not started, because "db" failed');
  expect(await rig.states()).toMatchObject({ other: 'running', web: 'stopped', app: 'stopped', db: 'stopped' });
  expect(stderr.trimEnd().split('\n').at(-1)).toBe('1 up, 3 failed');
});

test('up of one VM brings up what it depends on too, and says so', async () => {
  await using rig = await Rig.create();
  await rig.declare({ web: 'depends-on "db"', db: '', other: '' });
  const { stderr } = await rig.vmctl(['up', 'web']);
  expect(stderr).toContain('also bringing up db');
  expect(await rig.states()).toEqual({ db: 'running', web: 'running' });
});

test('an unknown name is an error with near names, and the others still come up', async () => {
  await using rig = await Rig.create();
  await rig.declare({ web: '', db: '' });
  const { exitCode, stderr } = await rig.vmctl(['up', 'wbe', 'db']);
  expect(exitCode).toBe(1);
  expect(stderr).toContain('the VMFile has no VM "wbe"');
  expect(stderr).toContain('"web"');
  expect(await rig.states()).toEqual({ db: 'running' });
});

test('a VM of the same name that belongs to another VMFile is left alone, and both files are named', async () => {
  await using rig = await Rig.create();
  await rig.declare({ web: '' });
  await rig.vmctl(['up']);
  const other = await rig.write('other/VMFile.kdl', 'vm "web" { image "../disk.raw" }');
  const { exitCode, stderr } = await rig.vmctl(['up', '--file', other]);
  expect(exitCode).toBe(1);
  expect(stderr).toContain(other);
  expect(stderr).toContain(`${rig.project}/VMFile.kdl`);
});

test('nothing is created while the VMFile has an error, and the exit code is 3', async () => {
  await using rig = await Rig.create();
  await rig.declare({ web: '', db: 'vcpus "many"' });
  const { exitCode, stderr } = await rig.vmctl(['up']);
  expect(exitCode).toBe(3);
  expect(stderr).toContain('VMFile.kdl:');
  expect(await rig.directories()).toEqual([]);
});

test('an interruption stops what was begun, keeps what was finished, and exits with 130', async () => {
  const interruption = new AbortController();
  await using rig = await Rig.create({
    before: async (operation, name, signal) => {
      if (operation !== 'start' || name !== 'slow') return;
      interruption.abort();
      signal.throwIfAborted();
    },
  });
  await rig.declare({ quick: '', slow: 'depends-on "quick"' });
  const { exitCode, stderr } = await rig.vmctl(['up'], { signal: interruption.signal });
  expect(exitCode).toBe(130);
  expect(stderr).toContain('interrupted');
  expect(await rig.states()).toEqual({ quick: 'running', slow: 'stopped' });
});

test('--json prints one object a line with a schema version, and the counts last', async () => {
  await using rig = await Rig.create();
  await rig.declare({ web: '' });
  const { stdout } = await rig.vmctl(['up', '--json']);
  const lines = stdout
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line));
  expect(lines.every((line) => line.schemaVersion === 1)).toBe(true);
  const ended = lines.filter((line) => line.type === 'done' || line.type === 'skipped').map((line) => line.step);
  expect(ended).toEqual(['parse', 'resolve', 'prepare', 'start', 'provision']);
  expect(lines.at(-1)).toEqual({ schemaVersion: 1, type: 'result', up: 1, unchanged: 0, failed: 0 });
});
