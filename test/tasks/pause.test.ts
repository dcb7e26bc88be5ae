import { expect, test } from 'vitest';
import { Rig } from '../support/rig.js';

test('suspend and resume change the state that list and status tell, several VMs at once', async () => {
  await using rig = await Rig.create();
  await rig.declare({ web: '', db: '' });
  await rig.vmctl(['up']);
  expect((await rig.vmctl(['suspend', 'web', 'db'])).exitCode).toBe(0);
  expect(await rig.states()).toEqual({ web: 'suspended', db: 'suspended' });
  expect((await rig.vmctl(['status', 'web'])).stdout).toMatch(/^state +suspended/m);
  expect((await rig.vmctl(['resume', 'web'])).exitCode).toBe(0);
  expect(await rig.states()).toEqual({ web: 'running', db: 'suspended' });
});

test('what is so already is left alone', async () => {
  await using rig = await Rig.create();
  await rig.declare({ web: '' });
  await rig.vmctl(['up']);
  expect((await rig.vmctl(['resume', 'web'])).stderr).toContain('skipped, already running');
  await rig.vmctl(['suspend', 'web']);
  const { exitCode, stderr } = await rig.vmctl(['suspend', 'web']);
  expect(exitCode).toBe(0);
  expect(stderr).toContain('skipped, already suspended');
});

test.each(['suspend', 'resume'])('%s of a stopped VM says so and how to start it; the others go on', async (word) => {
  await using rig = await Rig.create();
  await rig.declare({ web: '', db: '' });
  await rig.vmctl(['up']);
  await rig.vmctl(['stop', 'web']);
  const { exitCode, stderr } = await rig.vmctl([word, 'web', 'db', 'bd']);
  expect(exitCode).toBe(1);
  expect(stderr).toContain(`cannot ${word} VM "web": it is stopped\nhint: Start it with: vmctl start web`);
  expect(stderr).toContain('there is no VM "bd"\nhint: Did you mean "db"?');
  expect(await rig.states()).toEqual({ web: 'stopped', db: word === 'suspend' ? 'suspended' : 'running' });
});

test('up lets a suspended VM go on, start says how, and exec says why it cannot', async () => {
  await using rig = await Rig.create();
  await rig.declare({ web: '' });
  await rig.vmctl(['up']);
  await rig.vmctl(['suspend', 'web']);
  expect((await rig.vmctl(['start', 'web'])).stderr).toContain('suspended; continue it with: vmctl resume web');
  expect((await rig.vmctl(['exec', 'web', '--', 'true'])).stderr).toContain(
    'VM "web" is suspended\nhint: Run: vmctl resume web',
  );
  expect((await rig.vmctl(['up'])).stderr).toContain('web │ start: resumed (');
  expect(await rig.states()).toEqual({ web: 'running' });
});
