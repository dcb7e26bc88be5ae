import { expect, test } from 'vitest';
import { IMAGE_PRESETS, imagePreset } from '../../presets/images.js';
import { Rig } from '../support/rig.js';

test('image presets lists every preset with what it is on this host', async () => {
  await using rig = await Rig.create();
  const { exitCode, stdout, stderr } = await rig.vmctl(['image', 'presets']);
  expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: '' });
  const [header, ...rows] = stdout.trimEnd().split('\n');
  expect(header).toMatch(/^NAME +ARCHITECTURES +USER +FIRMWARE +URL$/);
  expect(rows.map((row) => row.split(/ {2,}/)[0])).toEqual(IMAGE_PRESETS.map(({ name }) => name));
  const debian = rows.find((row) => row.startsWith('debian-12 '));
  const { url, firmware } = imagePreset('debian-12', process.arch) ?? { url: '-', firmware: '-' };
  expect(debian?.split(/ {2,}/)).toEqual(['debian-12', 'x64, arm64', 'debian', firmware, url]);
});

test('image presets --json has the same, and the list that an image is checked against', async () => {
  await using rig = await Rig.create();
  const { stdout } = await rig.vmctl(['image', 'presets', '--json']);
  const { schemaVersion, architecture, presets } = JSON.parse(stdout);
  expect({ schemaVersion, architecture }).toEqual({ schemaVersion: 1, architecture: process.arch });
  expect(presets).toHaveLength(IMAGE_PRESETS.length);
  const image = imagePreset('ubuntu-24.04', process.arch);
  expect(presets).toContainEqual({
    name: 'ubuntu-24.04',
    description: 'Ubuntu 24.04 LTS',
    architectures: ['x64', 'arm64'],
    user: 'ubuntu',
    firmware: image?.firmware ?? null,
    url: image?.url ?? null,
    checksumUrl: image?.checksum.url ?? null,
  });
});

test('image presets makes no directory, and its help has two examples', async () => {
  await using rig = await Rig.create();
  const { exitCode, stdout } = await rig.vmctl(['image', 'presets', '--help']);
  expect(exitCode).toBe(0);
  expect(stdout).toContain('$ vmctl image presets\n');
  expect(stdout).toContain('$ vmctl image presets --json\n');
});

test('a VMFile may name a preset, and say more about it', async () => {
  await using rig = await Rig.create();
  await rig.write(
    'VMFile.kdl',
    `vm "a" { image-preset "fedora-44"; firmware "uefi"; ssh { user "root" } }
vm "b" { image-preset "fedora-44"; checksum "sha256:${'0'.repeat(64)}" }\n`,
  );
  const { exitCode, stderr } = await rig.vmctl(['validate']);
  expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: expect.stringContaining('is valid: 2 VMs (a, b)') });
  await rig.write('VMFile.kdl', 'vm "a" { image-preset "fedora44" }\n');
  expect((await rig.vmctl(['validate'])).stderr).toContain('did you mean "fedora-44"?');
});
