/** Named snapshots and saved memory on a real guest. */
import { readdir } from 'node:fs/promises';
import { expect, test } from 'vitest';
import { upIn } from '../../src/api/up.js';
import type { RunningVm } from '../../src/api/vm-types.js';
import { guestImage } from '../support/guests.js';
import { MachineRoom } from '../support/machine-room.js';
import { Programs } from '../support/programs.js';

const SLEEPER = 'ps | grep "[s]leep 12345" | wc -l';
const END_IT = "kill $(ps | awk '/[s]leep 12345/ { print $1 }')";

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
  await run(`echo second > note; ${END_IT}; sync`);
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

test('a program keeps a guest, breaks it and has it back, with its cables as they are and on the same port', async () => {
  await using programs = await Programs.create();
  const image = await guestImage('pocket');
  const network = { kind: 'user', lan: 'back' } as const;
  await using vms = await upIn({ vms: { web: { image, memory: 256, network } } }, programs.real);
  const { web } = vms;
  const { port } = web.ssh;
  /** A file, how many of a process there are, and whether the cable of the LAN is in. */
  const look = async (vm: RunningVm) => {
    const { stdout } = await vm.exec(`cat note; ${SLEEPER}; cat /sys/class/net/eth1/carrier`);
    const [note, sleepers, carrier] = stdout.split('\n');
    return { note, sleepers, carrier };
  };
  const first = { note: 'first', sleepers: '1', carrier: '1' };

  await web.exec('echo first > note; (sleep 12345 >/dev/null 2>&1 &)');
  await web.snapshot('first');
  expect(await look(web)).toEqual(first);
  await web.exec(`echo second > note; ${END_IT}; sync`);
  expect(await look(web)).toEqual({ note: 'second', sleepers: '0', carrier: '1' });
  const restored = await web.restore('first');
  expect(await look(restored)).toEqual(first);
  expect(restored.ssh.port).toBe(port);

  // Whoever pulls a cable finds it out after a snapshot; a VM that goes back to that has it in.
  await restored.disconnect('lan');
  await restored.snapshot('partition');
  expect(await look(restored)).toEqual({ ...first, carrier: '0' });
  expect((await restored.status()).unplugged).toEqual(['lan']);
  expect(await look(await restored.restore('partition'))).toEqual(first);
  await restored.disconnect('outside');
  await restored.snapshot('unreachable');
  expect((await restored.status()).unplugged).toEqual(['outside']);
  await restored.connect('outside');
  expect(await look(restored)).toEqual(first);

  const saved = await restored.suspend({ toDisk: true });
  expect(await saved.status()).toMatchObject({ state: 'stopped', pid: null, suspendedAt: expect.any(String) });
  expect(await look(await saved.resume())).toEqual(first);
  const stopped = await restored.stop();
  expect(await look(await stopped.restore('partition'))).toEqual(first);
  await stopped.deleteSnapshot('partition');
  expect((await stopped.snapshots()).map(({ tag }) => tag)).toEqual(['first', 'unreachable']);
});
