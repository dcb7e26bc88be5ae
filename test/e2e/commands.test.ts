import { expect, test } from 'vitest';
import { guestImage } from '../support/guests.js';
import { MachineRoom } from '../support/machine-room.js';

const BOOT_ID = ['--', 'cat', '/proc/sys/kernel/random/boot_id'];

test('a machine is suspended, goes on, is provisioned again as its steps say, and is made anew', async () => {
  await using room = await MachineRoom.open();
  const image = await guestImage('pocket');
  const declare = (change: string) =>
    room.write(
      'VMFile.kdl',
      `vm "web" {
        image "${image}"; memory 256; cloud-init; ssh
        provision "shell" { inline "echo always >> ran" }
        provision "shell" run="once" { inline "echo once >> ran" }
        provision "shell" run="on-change" { inline "echo ${change} >> ran" }
      }`,
    );
  const ran = async () => (await room.vmctl('exec', 'web', '--', 'cat ran')).stdout.trim().split('\n');
  await declare('first');
  expect((await room.vmctl('up')).exitCode).toBe(0);
  const { stdout: boot } = await room.vmctl('exec', 'web', ...BOOT_ID);

  expect((await room.vmctl('suspend', 'web')).exitCode).toBe(0);
  expect(await room.states()).toEqual({ web: 'suspended' });
  const refused = await room.vmctl('exec', 'web', '--', 'true');
  expect(refused.stderr).toContain('VM "web" is suspended\nhint: Run: vmctl resume web');
  // Nothing is started, so that nobody is told how fast a guest would be.
  const resumed = await room.vmctl('up');
  expect(resumed.stderr).toContain('web │ start: resumed, ');
  expect(resumed.stderr).not.toContain('emulation');
  expect((await room.vmctl('suspend', 'web')).exitCode).toBe(0);
  expect((await room.vmctl('resume', 'web')).exitCode).toBe(0);
  expect(await room.states()).toEqual({ web: 'running' });
  expect((await room.vmctl('exec', 'web', ...BOOT_ID)).stdout).toBe(boot);

  expect(await ran()).toEqual(['always', 'once', 'first']);
  // Options behind a command's first word are the command's.
  expect((await room.vmctl('exec', 'web', 'head', '-n', '1', 'ran')).stdout).toBe('always\n');
  expect((await room.vmctl('ssh', 'web', 'tail', '-n', '1', 'ran')).stdout).toBe('first\n');
  await declare('second');
  expect((await room.vmctl('provision', 'web')).stderr).toContain('2 steps run, 1 skipped');
  expect(await ran()).toEqual(['always', 'once', 'first', 'always', 'second']);
  await room.vmctl('provision');
  expect(await ran()).toEqual(['always', 'once', 'first', 'always', 'second', 'always']);

  expect((await room.vmctl('reload', 'web')).exitCode).toBe(0);
  expect(await ran()).toEqual(['always', 'once', 'second']);
  expect((await room.vmctl('exec', 'web', ...BOOT_ID)).stdout).not.toBe(boot);

  // Suspended, it can be stopped and destroyed all the same.
  await room.vmctl('suspend', 'web');
  expect((await room.vmctl('down', '--destroy')).exitCode).toBe(0);
  expect(await room.leftovers()).toEqual([]);
});

test('create makes and starts a machine without a VMFile', async () => {
  await using room = await MachineRoom.open();
  const words = ['--name', 'scratch', '--image', await guestImage('pocket'), '--memory', '256', '--start'];
  const created = await room.vmctl('create', ...words);
  expect(created).toMatchObject({
    exitCode: 0,
    stdout: '',
    stderr: expect.stringContaining('can log in: vmctl console'),
  });
  expect(created.stderr).not.toMatch(/^start:/m);
  expect(await room.states()).toEqual({ scratch: 'running' });
  expect(Object.keys(await room.machines())).toEqual(['scratch']);
  expect((await room.vmctl('destroy', 'scratch')).exitCode).toBe(0);
  expect(await room.leftovers()).toEqual([]);
});
