import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { Rig } from '../support/rig.js';

const STEP = 'ssh\nprovision "shell" run="once" { inline "echo hello" }';

test('reload makes a VM anew, as it is declared now, and provisions it', async () => {
  const operations: string[] = [];
  await using rig = await Rig.create({ before: async (operation) => void operations.push(operation) });
  await rig.declare({ web: STEP });
  await rig.vmctl(['up']);
  operations.length = 0;
  await rig.declare({ web: `${STEP}\nmemory 2048` });
  const { exitCode, stderr } = await rig.vmctl(['reload', 'web']);
  expect(exitCode).toBe(0);
  expect(operations).toEqual(['destroy', 'prepare', 'start']);
  expect(stderr).toContain('shell echo hello (not run');
  expect(JSON.parse((await rig.vmctl(['status', 'web', '--json'])).stdout)).toMatchObject({
    state: 'running',
    memoryMib: 2048,
    provisioning: 'done',
  });
});

test('reload makes only the chosen VMs anew, and brings up what they depend on', async () => {
  const operations: string[] = [];
  await using rig = await Rig.create({
    before: async (operation, name) => void operations.push(`${operation} ${name}`),
  });
  await rig.declare({ web: 'depends-on "db"', db: '', other: '' });
  await rig.vmctl(['up']);
  await rig.vmctl(['stop', 'db']);
  operations.length = 0;
  expect((await rig.vmctl(['reload', 'web'])).exitCode).toBe(0);
  expect(operations.filter((operation) => operation.endsWith('web'))).toEqual([
    'destroy web',
    'prepare web',
    'start web',
  ]);
  expect(operations.filter((operation) => !operation.endsWith('web'))).toEqual(['start db']);
});

test('reload of a VM that is not there yet brings it up', async () => {
  await using rig = await Rig.create();
  await rig.declare({ web: '' });
  expect((await rig.vmctl(['reload'])).exitCode).toBe(0);
  expect(await rig.states()).toEqual({ web: 'running' });
});

test('reload leaves a VM as it is when the new one could not be made', async () => {
  await using rig = await Rig.create();
  await rig.declare({ web: '' });
  await rig.vmctl(['up']);
  await writeFile(join(rig.project, 'disk.raw'), 'no sector long');
  const { exitCode } = await rig.vmctl(['reload', 'web']);
  expect(exitCode).toBe(1);
  expect(await rig.states()).toEqual({ web: 'running' });
});

test('reload of a VMFile with a mistake touches nothing', async () => {
  await using rig = await Rig.create();
  await rig.declare({ web: '' });
  await rig.vmctl(['up']);
  await rig.declare({ web: 'memroy 5' });
  const { exitCode, stderr } = await rig.vmctl(['reload']);
  expect(exitCode).toBe(3);
  expect(stderr).toContain('did you mean `memory`?');
  expect(await rig.states()).toEqual({ web: 'running' });
});
