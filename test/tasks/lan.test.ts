import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { VM_FILES } from '../../src/paths.js';
import { Rig } from '../support/rig.js';

const back = 'network "user" { lan "back" }\nssh';

async function hostsOf(rig: Rig, name: string): Promise<unknown> {
  return JSON.parse(await readFile(join(rig.paths.vm(name), VM_FILES.record), 'utf8')).hosts;
}

test('status and list tell where a VM is on its LAN, and where it is on none', async () => {
  await using rig = await Rig.create();
  await rig.declare({ a: back, b: back, alone: '' });
  await rig.vmctl(['up']);
  const lan = { name: 'back', address: '10.77.0.12', mac: '02:4c:0a:4d:00:0c' };
  expect(JSON.parse((await rig.vmctl(['status', 'b', '--json'])).stdout)).toMatchObject({ lan });
  expect((await rig.vmctl(['status', 'b'])).stdout).toMatch(/^LAN +back, 10\.77\.0\.12, 02:4c:0a:4d:00:0c$/m);
  const { vms }: { vms: readonly unknown[] } = JSON.parse((await rig.vmctl(['list', '--json'])).stdout);
  expect(vms).toMatchObject([
    { name: 'a', lan: { address: '10.77.0.11' } },
    { name: 'alone', lan: null },
    { name: 'b', lan },
  ]);
  // It is the VM's own, whatever the VM does.
  await rig.vmctl(['stop', 'b']);
  expect(JSON.parse((await rig.vmctl(['status', 'b', '--json'])).stdout)).toMatchObject({ state: 'stopped', lan });
});

test('a VM that is up is told who has come to its LAN, once, and is left as it is', async () => {
  await using rig = await Rig.create();
  await rig.declare({ a: back });
  await rig.vmctl(['up']);
  expect(await hostsOf(rig, 'a')).toEqual(['10.77.0.11 a']);
  await rig.declare({ a: back, b: back });
  const up = await rig.vmctl(['up']);
  expect(up.stderr).toContain('a │ provision: told who is on its LAN now');
  expect(up.stderr).not.toContain('reload');
  expect(await hostsOf(rig, 'a')).toEqual(['10.77.0.11 a', '10.77.0.12 b']);
  const again = await rig.vmctl(['up']);
  expect(again.stderr).toContain('a │ provision: skipped, already provisioned');
  expect(again.stderr).toContain('2 already up');
});

test('another LAN or address takes a reload, and says so with both', async () => {
  await using rig = await Rig.create();
  await rig.declare({ a: back, b: '' });
  await rig.vmctl(['up']);
  await rig.declare({
    a: 'network "user" { lan "back" address="10.77.0.9" }\nssh',
    b: 'network "user" { lan "front" }\nssh',
  });
  const { stderr } = await rig.vmctl(['up']);
  const told = (name: string, change: string) => `${change}; to apply that, run: vmctl reload ${name}`;
  expect(stderr).toContain(
    told('a', 'network is user, lan back at 10.77.0.11, and declared as user, lan back at 10.77.0.9'),
  );
  expect(stderr).toContain(told('b', 'network is user, and declared as user, lan front at 10.77.0.11'));
  await rig.vmctl(['reload']);
  expect(JSON.parse((await rig.vmctl(['status', 'a', '--json'])).stdout).lan.address).toBe('10.77.0.9');
});

test('a VM is not made while another one still has its address, and is once that one is made anew', async () => {
  await using rig = await Rig.create();
  await rig.declare({ a: back, b: back });
  await rig.vmctl(['up']);
  await rig.declare({ a: back, new: back, b: back });
  const message = 'VM "new" is to be 10.77.0.12 on LAN "back", which "b" is still';
  const plan = await rig.vmctl(['up', '--dry-run']);
  expect(plan.stdout + plan.stderr).toContain(message);
  const up = await rig.vmctl(['up']);
  expect(up.exitCode).toBe(1);
  expect(up.stderr).toContain(message);
  expect(up.stderr).toContain('vmctl reload b');
  expect((await rig.vmctl(['reload', 'b'])).exitCode).toBe(0);
  expect((await rig.vmctl(['up'])).exitCode).toBe(0);
  // All at once is fine as well.
  await rig.declare({ newest: back, a: back, new: back, b: back });
  const reload = await rig.vmctl(['reload']);
  expect(reload.stderr).not.toContain('is still');
  expect(reload.exitCode).toBe(0);
});

test('the same address on another LAN, or in another VMFile, is nobody’s business', async () => {
  await using rig = await Rig.create();
  await rig.declare({ a: back });
  await rig.vmctl(['up']);
  await rig.declare({ a: back, b: back.replace('back', 'front') });
  expect((await rig.vmctl(['up'])).exitCode).toBe(0);
  await rig.write('other/disk.raw', Buffer.alloc(1024 * 1024));
  await rig.write('other/VMFile.kdl', `vm "c" { image "disk.raw"; network "user" { lan "back" }; ssh }`);
  expect((await rig.vmctl(['up', '--file', 'other/VMFile.kdl'])).exitCode).toBe(0);
});
