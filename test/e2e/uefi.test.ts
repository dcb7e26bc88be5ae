import { expect, test } from 'vitest';
import { guestImage } from '../support/guests.js';
import { MachineRoom } from '../support/machine-room.js';

/** A variable of our own: four bytes of attributes (kept over restarts, also for the running system), then the value. */
const VARIABLE = 'Vmctl-6f6dfa32-5e3c-4c2b-8a0c-0d7b8a3a4f11';
const MOUNT = 'sudo modprobe efivarfs; sudo mount -t efivarfs efivarfs /sys/firmware/efi/efivars';
const WRITE = String.raw`printf '\007\000\000\000kept' | sudo dd of=/sys/firmware/efi/efivars/${VARIABLE} bs=8 2>/dev/null`;
/** Another one. */
const later = (command: string) => command.replace('Vmctl-', 'Later-');
const READ = `sudo tail -c 4 /sys/firmware/efi/efivars/${VARIABLE}`;

test('one image boots by UEFI and by BIOS, and what the guest tells its firmware outlives a stop', async () => {
  await using room = await MachineRoom.open();
  const common = `image ${JSON.stringify(await guestImage('pocket'))}; memory 256; cloud-init; ssh`;
  await room.write('VMFile.kdl', `vm "new" { firmware "uefi"; ${common} }\nvm "old" { ${common} }`);
  const exec = async (name: string, line: string) => room.vmctl('exec', name, '--', line);

  expect((await room.vmctl('up')).stderr.trimEnd().split('\n').at(-1)).toBe('2 up');
  expect((await exec('new', 'ls -d /sys/firmware/efi')).stdout).toBe('/sys/firmware/efi\n');
  expect((await exec('old', 'ls -d /sys/firmware/efi')).exitCode).not.toBe(0);
  expect(await exec('new', `${MOUNT} && ${WRITE} && ${READ}`)).toMatchObject({ exitCode: 0, stdout: 'kept' });

  expect((await room.vmctl('down')).exitCode).toBe(0);
  expect((await room.vmctl('up', 'new')).exitCode).toBe(0);
  expect(await exec('new', `${MOUNT} && ${READ}`)).toMatchObject({ exitCode: 0, stdout: 'kept' });
  expect((await room.vmctl('down', '--destroy')).exitCode).toBe(0);
  expect(await room.leftovers()).toEqual([]);
});

test('a machine with UEFI goes on from its frozen memory, with the variables of that moment, and boots with them', async () => {
  await using room = await MachineRoom.open();
  const step = `provision "shell" { inline ${JSON.stringify(`${MOUNT} && ${WRITE}`)} }`;
  await room.write(
    'VMFile.kdl',
    `vm "new" {
      image ${JSON.stringify(await guestImage('pocket'))}; memory 256; firmware "uefi"; cloud-init; ssh; warm #true
      ${step}
    }`,
  );
  const exec = async (line: string) => (await room.vmctl('exec', 'new', '--', line)).stdout;
  expect((await room.vmctl('up')).stderr).toContain('frozen with its memory and disk');
  expect((await room.vmctl('down', '--destroy')).exitCode).toBe(0);
  expect((await room.vmctl('up')).stderr).toContain(', from what was frozen');
  expect(await exec(READ)).toBe('kept');
  expect(await exec(`${later(WRITE)} && ${later(READ)}`)).toBe('kept');
  expect((await room.vmctl('reset', 'new')).exitCode).toBe(0);
  expect(await exec(`${READ}; ${later(READ)}`)).toBe('kept');
  expect((await room.vmctl('reboot', 'new')).exitCode).toBe(0);
  expect(await exec(`${MOUNT} && ${READ}; ${later(READ)}`)).toBe('kept');
  expect((await room.vmctl('down', '--destroy')).exitCode).toBe(0);
  expect(await room.leftovers()).toEqual([]);
});
