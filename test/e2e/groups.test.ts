import { readFile, symlink, mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { ROOT } from '../support/documentation.js';
import { guestImage } from '../support/guests.js';
import { MachineRoom } from '../support/machine-room.js';

/** The VMFile of docs/groups.md, with another number of VMs. */
async function documented(count: number): Promise<string> {
  const text = await readFile(join(ROOT, 'docs', 'groups.md'), 'utf8');
  const [, kdl = ''] = /^```kdl\n(.*?)^```$/ms.exec(text) ?? [];
  return kdl.replace(/count=\d+/, `count=${count}`);
}

test('the VMs of a group have names, hostnames, keys, addresses and ports of their own, and leave nothing', async () => {
  await using room = await MachineRoom.open();
  await mkdir(join(room.project, 'images'));
  await symlink(await guestImage('pocket'), join(room.project, 'images', 'worker.qcow2'));
  await room.write('VMFile.kdl', await documented(2));

  const up = await room.vmctl('up', 'worker');
  expect(up.stderr.trimEnd().split('\n').at(-1)).toBe('2 up');
  const names = ['worker-1', 'worker-2'];
  const facts = await Promise.all(
    names.map(async (name) => {
      const inside = await room.vmctl('exec', name, 'hostname; cat common own /sys/class/net/eth0/address');
      const status = JSON.parse((await room.vmctl('status', name, '--json')).stdout);
      const hostKey = (await readFile(status.ssh.knownHosts, 'utf8')).split(' ')[2] ?? '';
      return { inside: inside.stdout.trimEnd().split('\n'), status, hostKey };
    }),
  );
  expect(facts.map(({ inside }) => inside.slice(0, 3))).toEqual([
    ['worker-1', 'the same in all of them', '1 of them is worker-1'],
    ['worker-2', 'the same in all of them', '2 of them is worker-2'],
  ]);
  const macs = facts.map(({ inside }) => inside[3]);
  expect(macs).toEqual(facts.map(({ status }) => status.mac));
  const ports = facts.map(({ status }) => status.forwards.find(({ guest }: { guest: number }) => guest === 80)?.host);
  for (const values of [macs, ports, facts.map(({ hostKey }) => hostKey)]) expect(new Set(values).size).toBe(2);

  expect((await room.vmctl('exec', 'worker', 'true')).exitCode).toBe(2);
  expect((await room.vmctl('down', 'worker', '--destroy')).exitCode).toBe(0);
  expect(await room.leftovers()).toEqual([]);
});
