/** Named snapshots and saved memory on a real guest. */
import { readdir } from 'node:fs/promises';
import { expect, test } from 'vitest';
import { guestImage } from '../support/guests.js';
import { MachineRoom } from '../support/machine-room.js';

const SLEEPER = 'ps | grep "[s]leep 12345" | wc -l';

test('a VM goes back to a snapshot with its files and its processes, and its memory survives its own process', async () => {
  await using room = await MachineRoom.open();
  const image = JSON.stringify(await guestImage('pocket'));
  await room.write('VMFile.kdl', `vm "web" { image ${image}; memory 256; cloud-init; ssh }`);
  await room.vmctl('up');
  const run = async (command: string): Promise<string> => {
    const { exitCode, stdout, stderr } = await room.vmctl('exec', 'web', '--', command);
    expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: '' });
    return stdout;
  };
  const bootId = await run('cat /proc/sys/kernel/random/boot_id');
  await run('echo first > note; (sleep 12345 >/dev/null 2>&1 &); sync');
  expect((await room.vmctl('snapshot', 'web', 'first')).exitCode).toBe(0);
  // The VM itself goes on.
  expect(await run(`cat note; ${SLEEPER}`)).toBe('first\n1\n');
  await run(`echo second > note; kill $(ps | awk '/[s]leep 12345/ { print $1 }'); sync`);
  expect((await room.vmctl('snapshot', 'web', 'second')).exitCode).toBe(0);

  expect((await room.vmctl('restore', 'web', 'first')).exitCode).toBe(0);
  expect(await run(`cat note; ${SLEEPER}; cat /proc/sys/kernel/random/boot_id`)).toBe(`first\n1\n${bootId}`);
  const guestClock = Number(await run('date +%s'));
  expect(Math.abs(guestClock - Date.now() / 1000)).toBeLessThan(30);

  // What stands on a disk keeps it, whatever its name.
  expect((await room.vmctl('snapshot', 'web', 'first', '--delete')).exitCode).toBe(0);
  expect((await room.vmctl('restore', 'web', 'second')).exitCode).toBe(0);
  expect(await run(`cat note; ${SLEEPER}`)).toBe('second\n0\n');

  await run('echo third > note; (sleep 12345 >/dev/null 2>&1 &)');
  expect((await room.vmctl('suspend', 'web', '--to-disk')).exitCode).toBe(0);
  expect(await room.machines()).toEqual({});
  expect((await room.vmctl('resume', 'web')).exitCode).toBe(0);
  expect(await run(`cat note; ${SLEEPER}; cat /proc/sys/kernel/random/boot_id`)).toBe(`third\n1\n${bootId}`);

  expect((await room.vmctl('down', '--destroy')).exitCode).toBe(0);
  expect(await room.machines()).toEqual({});
  expect(await readdir(room.paths.vms)).toEqual([]);
});
