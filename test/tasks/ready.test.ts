import { expect, test } from 'vitest';
import { Rig } from '../support/rig.js';

const READY = 'ssh\nready { port 5432; http "/health" port=8080; log "up" flags="i"; cloud-init }';

async function readyOf(rig: Rig): Promise<unknown> {
  const status: { readonly ready: unknown } = JSON.parse((await rig.vmctl(['status', 'web', '--json'])).stdout);
  return status.ready;
}

test('up waits for each condition after provisioning, and status tells since when they hold', async () => {
  await using rig = await Rig.create();
  await rig.declare({ web: `${READY}\nprovision "shell" { inline "echo hello" }` });
  const { stderr } = await rig.vmctl(['up']);
  expect(stderr.indexOf('ready: port 5432')).toBeGreaterThan(stderr.indexOf('shell echo hello'));
  expect(stderr).toContain('1 step run, ready');
  const conditions = ['port 5432', 'http "/health" port=8080', 'log /up/i', 'cloud-init'];
  expect(await readyOf(rig)).toEqual({ conditions, since: expect.stringMatching(/^\d{4}-.*Z$/) });
  const { stdout } = await rig.vmctl(['status', 'web']);
  expect(stdout).toMatch(/^ready +since \d{4}-.*\n +port 5432\n +http "\/health" port=8080\n/m);
  await rig.vmctl(['down']);
  await rig.vmctl(['start', 'web']);
  expect(await readyOf(rig)).toEqual({ conditions, since: null });
  expect((await rig.vmctl(['status', 'web'])).stdout).toMatch(/^ready +not seen to be since its last start$/m);
  expect((await rig.vmctl(['up'])).stderr).toContain('ready: port 5432');
  expect(await readyOf(rig)).toMatchObject({ since: expect.any(String) });
});

test('up looks at a VM that runs as well, by what is declared now, which needs no reload', async () => {
  await using rig = await Rig.create();
  await rig.declare({ web: READY });
  await rig.vmctl(['up']);
  await rig.declare({ web: 'ssh\nready { port 80 }' });
  const again = await rig.vmctl(['up']);
  expect(again.stderr).toContain('provision: already provisioned, ready');
  expect(again.stderr).toContain('1 already up');
  expect(again.stderr).not.toContain('reload');
  expect(await readyOf(rig)).toMatchObject({ conditions: ['port 80'] });
  await rig.declare({ web: 'ssh' });
  expect((await rig.vmctl(['up'])).stderr).toContain('provision: skipped, already provisioned');
  expect(await readyOf(rig)).toBeNull();
});

test('without provisioning nothing is waited for, and the next up does both', async () => {
  await using rig = await Rig.create();
  await rig.declare({ web: READY });
  expect((await rig.vmctl(['up', '--no-provision'])).stderr).not.toContain('ready: ');
  expect(await readyOf(rig)).toMatchObject({ since: null });
  expect((await rig.vmctl(['up'])).stderr).toContain('ready: port 5432');
});

test('provision waits too, also where there is nothing to provision', async () => {
  await using rig = await Rig.create();
  await rig.declare({ web: READY });
  await rig.vmctl(['up']);
  expect((await rig.vmctl(['provision'])).stderr).toContain('ready: port 5432');
});

test('a plan tells what is waited for', async () => {
  await using rig = await Rig.create();
  await rig.declare({ web: READY });
  const told = 'is ready by port 5432, http "/health" port=8080, log /up/i, cloud-init';
  expect((await rig.vmctl(['up', '--dry-run'])).stdout).toContain(told);
  expect((await rig.vmctl(['up', '--dry-run', '--no-provision'])).stdout).not.toContain('is ready by');
  const { stdout } = await rig.vmctl(['up', '--dry-run', '--json']);
  expect(JSON.parse(stdout)).toMatchObject({ vms: [{ name: 'web', ready: expect.arrayContaining(['port 5432']) }] });
});
