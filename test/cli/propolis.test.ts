/** What somebody sees on illumos, where the console of a VM is not written down while its guest prints. */
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { PropolisBackend } from '../../src/hypervisor/propolis/backend.js';
import { openConsole } from '../../tasks/console.js';
import { actAsGuest, openPropolisWorld } from '../support/propolis-world.js';
import { Rig, gate } from '../support/rig.js';

const PATIENCE = { timeout: 20_000 };
const GLOBAL_ZONE = ['0', 'global', 'running', '/', '', 'lipkg', 'shared', '0'];

async function openIllumos() {
  const world = await openPropolisWorld({ zones: [GLOBAL_ZONE] });
  const rig = await Rig.create({ backend: ({ locks }) => new PropolisBackend({ ...world.options, locks }) });
  return {
    world,
    rig,
    guest: (act: 'print' | 'power-off', words = '') => actAsGuest(rig.paths.vm('web'), act, words),
    [Symbol.asyncDispose]: async () => {
      await world[Symbol.asyncDispose]();
      await rig[Symbol.asyncDispose]();
    },
  };
}

test('a guest that does not come to be ready is told of with the last lines of its console', async () => {
  await using illumos = await openIllumos();
  const { rig, world } = illumos;
  await world.behave({ says: 'Booting\r\nKernel panic - not syncing\r\n' });
  await rig.declare({ web: 'network "vnic" name="vnic0"; cloud-init; ssh { timeout 1 }' });
  const { exitCode, stderr } = await rig.vmctl(['up']);
  expect(exitCode).toBe(124);
  expect(stderr).toContain('VM "web" was not ready within 1 s: its address is not known yet');
  expect(stderr).toMatch(/Booting\n.*Kernel panic - not syncing/);
  expect((await rig.vmctl(['log', 'web'])).stdout).toBe('Booting\r\nKernel panic - not syncing\r\n');
});

test('a guest that powers itself off while it is waited for is told of with what it said', async () => {
  await using illumos = await openIllumos();
  const { rig, world } = illumos;
  await world.behave({ says: 'no bootable device\r\n' });
  await rig.declare({ web: 'network "vnic" name="vnic0"; cloud-init; ssh' });
  const begun = gate();
  const up = rig.vmctl(['up'], { onOutput: (text) => void (text.includes('provision …') && begun.open()) });
  await begun.passed;
  // Nobody asks for the log: who waits for the guest fetches it.
  const log = join(rig.paths.vm('web'), 'console.log');
  await expect.poll(() => readFile(log, 'utf8').catch(() => ''), PATIENCE).toContain('no bootable device');
  await illumos.guest('power-off');
  const { stderr } = await up;
  expect(stderr).toContain('VM "web" stopped while it was waited for');
  expect(stderr).toContain('no bootable device');
});

test('log shows what the guest has printed so far, and follows it until the VM is destroyed', async () => {
  await using illumos = await openIllumos();
  const { rig } = illumos;
  const made = await rig.vmctl(['create', '--name', 'web', '--image', 'disk.raw', '--vnic', 'vnic0', '--start']);
  expect(made).toMatchObject({ exitCode: 0 });
  await illumos.guest('print', 'one\ntwo\n');
  expect((await rig.vmctl(['log', 'web', '--tail', '1'])).stdout).toBe('two\n');
  let seen = '';
  const follower = rig.vmctl(['log', 'web', '-f'], { onOutput: (text) => void (seen += text) });
  await expect.poll(() => seen, PATIENCE).toBe('one\ntwo\n');
  await illumos.guest('print', 'three\n');
  await expect.poll(() => seen, PATIENCE).toBe('one\ntwo\nthree\n');
  await rig.vmctl(['stop', 'web', '--timeout', '0s']);
  await rig.vmctl(['start', 'web']);
  await illumos.guest('print', 'four\n');
  await expect.poll(() => seen, PATIENCE).toBe('one\ntwo\nthree\nfour\n');
  await rig.vmctl(['destroy', 'web']);
  expect(await follower).toMatchObject({ exitCode: 0, stdout: 'one\ntwo\nthree\nfour\n' });
  expect(illumos.world.host.left()).toEqual([]);
});

test('who attaches to the console is shown what was printed last, once', async () => {
  await using illumos = await openIllumos();
  const { rig } = illumos;
  await rig.vmctl(['create', '--name', 'web', '--image', 'disk.raw', '--vnic', 'vnic0', '--start']);
  await illumos.guest('print', 'login: ');
  await rig.vmctl(['log', 'web']);
  const env = rig.environment();
  const [entry] = await env.registry.list();
  if (entry === undefined) throw new Error('there is no VM');
  await using attached = await openConsole(env, entry);
  expect(attached.recent).toBe('');
  const [first] = await once(attached.stream, 'data');
  expect(String(first)).toBe('login: ');
});

test('log says why it is not up to date, and shows what is there', async () => {
  await using illumos = await openIllumos();
  const { rig, world } = illumos;
  await rig.vmctl(['create', '--name', 'web', '--image', 'disk.raw', '--vnic', 'vnic0', '--start']);
  await illumos.guest('print', 'one\n');
  await rig.vmctl(['log', 'web']);
  const [server] = await world.servers();
  process.kill(server?.pid ?? 0, 'SIGSTOP');
  const { exitCode, stdout, stderr } = await rig.vmctl(['log', 'web']);
  expect({ exitCode, stdout }).toEqual({ exitCode: 0, stdout: 'one\n' });
  expect(stderr).toContain('note: what it printed last cannot be had: propolis-server cannot be reached at 127.0.0.1:');
});

test('a network that Propolis does not have is a mistake of the VMFile', async () => {
  await using illumos = await openIllumos();
  const { rig } = illumos;
  await rig.declare({ web: '' });
  const { exitCode, stderr } = await rig.vmctl(['up']);
  expect(exitCode).toBe(3);
  expect(stderr).toContain('network "user" needs QEMU, and VMs on illumos run on Propolis');
  expect((await rig.vmctl(['validate'])).exitCode).toBe(3);
});

test.each([
  [[], 'a VM on illumos needs a VNIC\nhint: Give it a name, and it is made for the VM: --vnic vmctl0'],
  [['--bridge', 'br0'], '--bridge names a bridge of Linux\nhint: Give it a name'],
  [['--vnic', 'vnic_web'], '--vnic must be the name of a VNIC: "vnic_web", but it does not end with a digit'],
  [['--vnic', 'vnic0', '--bridge', 'br0'], 'a VM has one network\nhint: Give either --bridge or --vnic.'],
])('create %j is refused on illumos', async (words, message) => {
  await using illumos = await openIllumos();
  const { rig } = illumos;
  const { exitCode, stderr } = await rig.vmctl(['create', '--name', 'web', '--image', 'disk.raw', ...words]);
  expect(stderr).toContain(message);
  expect(exitCode).toBe(2);
  expect(await rig.directories()).toEqual([]);
});
