import { rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { VM_FILES } from '../../src/paths.js';
import { MachineRoom } from '../support/machine-room.js';

/** Brings up a machine without a guest, which is enough for a process and a disk; gives its pid. */
async function upMute(room: MachineRoom): Promise<number> {
  await room.write('nothing.raw', '\0'.repeat(1024 * 1024));
  await room.write('VMFile.kdl', 'vm "mute" { image "nothing.raw"; memory 64 }');
  expect((await room.vmctl('up')).exitCode).toBe(0);
  const { mute } = await room.machines();
  if (mute === undefined) throw new Error('mute has no QEMU');
  return mute;
}

interface Told {
  readonly checks: readonly { id: string; result: string; found: string; next: readonly string[] }[];
}

async function leftovers(room: MachineRoom) {
  const { exitCode, stdout } = await room.vmctl('doctor', '--json');
  const { checks }: Told = JSON.parse(stdout);
  const found = checks.filter(({ id }) => id === 'leftovers').map((check) => [check.found, ...check.next]);
  return { exitCode, found };
}

const isAlive = (pid: number) => process.kill(pid, 0);

test('doctor finds the QEMU of this host able to run VMs, and one that is not there not', async () => {
  await using room = await MachineRoom.open();
  const well = await room.vmctl('doctor', '--json');
  expect({ exitCode: well.exitCode, stderr: well.stderr }).toEqual({ exitCode: 0, stderr: '' });
  const { able, checks }: Told & { able: boolean } = JSON.parse(well.stdout);
  expect(able).toBe(true);
  const found = new Map(checks.map((check) => [check.id, check]));
  expect(found.get('qemu')?.found).toMatch(/^\d+\.\d+\.\d+, \/.*qemu-system-x86_64/);
  expect(found.get('accelerator')?.found).toMatch(/^KVM$|^software emulation, several times slower: .*\/dev\/kvm/);
  expect(found.get('space')?.found).toMatch(/ free$/);

  await using other = await MachineRoom.open({ variables: { VMCTL_QEMU_BINARY: '/nowhere/qemu' } });
  const missing = await other.vmctl('doctor');
  expect(missing.exitCode).toBe(4);
  expect(missing.stdout).toMatch(
    /^problem +QEMU +\/nowhere\/qemu was not found\n +next: Check the setting qemu\.binary\.$/m,
  );
  expect(missing.stderr).toBe('note: this host cannot run VMs yet: QEMU\n');

  await using wrong = await MachineRoom.open({ variables: { VMCTL_QEMU_BINARY: '/bin/true' } });
  const untold = await wrong.vmctl('doctor');
  expect(untold.exitCode).toBe(4);
  expect(untold.stdout).toContain('/bin/true does not tell its version as QEMU does');
});

test('a bridge that this host does not have is told before anything is made, by doctor and by the plan of up', async () => {
  await using room = await MachineRoom.open();
  await room.write('nothing.raw', '\0'.repeat(1024 * 1024));
  await room.write('VMFile.kdl', 'vm "web" { image "nothing.raw"; network "tap" bridge="vmctl-nowhere" }');
  const words = 'this host has no bridge "vmctl-nowhere"';
  const step = 'sudo ip link add vmctl-nowhere type bridge && sudo ip link set vmctl-nowhere up';
  const plan = await room.vmctl('up', '--dry-run');
  expect(plan.exitCode).toBe(1);
  expect(plan.stdout).toContain(`web: cannot come up: ${words}\n    hint: Make one: ${step}`);
  const doctor = await room.vmctl('doctor');
  expect(doctor.exitCode).toBe(4);
  expect(doctor.stdout).toMatch(new RegExp(`^problem +bridge vmctl-nowhere +${words}\n +next: Make one: ${step}`, 'm'));
});

test('a machine that runs while its files are lost is told of, left alone by gc, and ended by destroy', async () => {
  await using room = await MachineRoom.open();
  const pid = await upMute(room);
  expect((await leftovers(room)).found).toEqual([['none']]);
  await rm(room.paths.registry);
  await rm(join(room.paths.vm('mute'), VM_FILES.handle));
  const handle = join(room.paths.vm('mute'), VM_FILES.handle);
  const what = `VM "mute" is damaged: ${handle} is missing or unreadable, and its QEMU (pid ${pid}) still runs`;
  expect(await leftovers(room)).toEqual({ exitCode: 0, found: [[what, 'vmctl destroy mute']] });

  const gc = await room.vmctl('gc');
  expect({ exitCode: gc.exitCode, stdout: gc.stdout }).toEqual({ exitCode: 0, stdout: '' });
  expect(gc.stderr).toContain(`${what}; to end it: vmctl destroy mute`);
  expect(await room.machines()).toEqual({ mute: pid });

  expect((await room.vmctl('destroy', 'mute')).exitCode).toBe(0);
  expect(await room.leftovers()).toEqual([]);
  expect((await leftovers(room)).found).toEqual([['none']]);
});

test('the rest of a machine that was being removed stays while its QEMU runs, also when another command begins', async () => {
  await using room = await MachineRoom.open();
  const pid = await upMute(room);
  const rest = join(room.paths.vms, '.removing-mute');
  await rename(room.paths.vm('mute'), rest);
  expect((await leftovers(room)).found).toEqual([
    [`a QEMU (pid ${pid}) still runs in ${rest}, the rest of VM "mute"`, `kill ${pid}`],
    [expect.stringMatching(/^1 thing left by killed processes/), 'vmctl gc --dry-run'],
  ]);
  expect((await room.vmctl('down')).exitCode).toBe(0);
  const gc = await room.vmctl('gc', '--json');
  expect(JSON.parse(gc.stdout)).toMatchObject({ items: [{ what: 'registry entry mute', result: 'removed' }] });
  expect(await room.machines()).toEqual({ '.removing-mute': pid });
  expect(isAlive(pid)).toBe(true);
});

test('a QEMU whose directory is gone is told of, with the command that ends it', async () => {
  await using room = await MachineRoom.open();
  const pid = await upMute(room);
  await rm(room.paths.vm('mute'), { recursive: true });
  await writeFile(room.paths.registry, '{"schemaVersion":1,"vms":{}}');
  expect((await leftovers(room)).found).toEqual([
    [`a QEMU of VM "mute" (pid ${pid}) still runs, and its directory is gone`, `kill ${pid}`],
  ]);
  expect((await room.vmctl('gc')).exitCode).toBe(0);
  expect(isAlive(pid)).toBe(true);
});
