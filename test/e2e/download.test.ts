import { readdir } from 'node:fs/promises';
import { expect, test } from 'vitest';
import { serveFile } from '../support/file-server.js';
import { guestImage } from '../support/guests.js';
import { MachineRoom } from '../support/machine-room.js';

test('an image is downloaded once, although five VMs of two processes ask for it', async () => {
  await using server = await serveFile(await guestImage('pocket'));
  // The machines need not run for this, so the backend without guests prepares and "starts" them.
  await using room = await MachineRoom.open({ variables: { VMCTL_BACKEND: 'noop' } });
  const names = ['a', 'b', 'c', 'd', 'e'];
  await room.write('VMFile.kdl', names.map((name) => `vm "${name}" { image-url "${server.url}" }`).join('\n'));
  const results = await Promise.all([room.vmctl('up'), room.vmctl('up')]);
  expect(results.map(({ exitCode }) => exitCode)).toEqual([0, 0]);
  expect(Object.keys(await room.states())).toEqual(names);
  expect(server.requests()).toBe(1);
  expect((await readdir(room.paths.images)).filter((name) => name.endsWith('.qcow2'))).toHaveLength(1);
});

test('a machine boots from an image that was downloaded', async () => {
  await using server = await serveFile(await guestImage('pocket'));
  await using room = await MachineRoom.open();
  await room.write('VMFile.kdl', `vm "web" { image-url "${server.url}"; memory 256; cloud-init; ssh }`);
  const up = await room.vmctl('up');
  expect(up.exitCode).toBe(0);
  expect(up.stderr).toContain('hint: use https://, or add `checksum');
  expect((await room.vmctl('exec', 'web', '--', 'hostname')).stdout).toBe('web\n');
});
