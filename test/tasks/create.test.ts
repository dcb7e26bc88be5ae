import { expect, test } from 'vitest';
import { specOfFlags } from '../../src/cli/create-spec.js';
import { Rig } from '../support/rig.js';

test('create makes a VM without a VMFile and leaves it stopped', async () => {
  await using rig = await Rig.create();
  const { exitCode, stdout } = await rig.vmctl(['create', '--name', 'scratch', '--image', 'disk.raw']);
  expect({ exitCode, stdout }).toEqual({ exitCode: 0, stdout: '' });
  expect(JSON.parse((await rig.vmctl(['status', 'scratch', '--json'])).stdout)).toMatchObject({
    state: 'stopped',
    project: null,
    vcpus: 1,
    memoryMib: 1024,
    network: 'user',
  });
  expect((await rig.vmctl(['start', 'scratch'])).exitCode).toBe(0);
  expect(await rig.states()).toEqual({ scratch: 'running' });
});

test('create takes all that a VM can be given, and starts it', async () => {
  await using rig = await Rig.create();
  await rig.write('id.pub', 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJmMqJ0Nnv7fVbW0yq1NBYFQTTx6vJ9V6o2QXm1m2vQh me\n');
  const options = ['--vcpus', '4', '--memory', '2GiB', '--disk', '3', '--ssh-key', 'id.pub', '--start'];
  const { exitCode } = await rig.vmctl(['create', '--name', 'big', '--image', 'disk.raw', ...options]);
  expect(exitCode).toBe(0);
  expect(JSON.parse((await rig.vmctl(['status', 'big', '--json'])).stdout)).toMatchObject({
    state: 'running',
    vcpus: 4,
    memoryMib: 2048,
    diskBytes: 3 * 1024 ** 3,
  });
});

test.each([
  [['--image', 'disk.raw'], 2, "required option '--name <name>' not specified"],
  [['--name', 'a b', '--image', 'disk.raw'], 2, 'a letter or digit first, but it has a space'],
  [['--name', 'x'], 2, 'a VM needs an image\nhint: Give either --image PATH or --image-url URL.'],
  [['--name', 'x', '--image', 'disk.raw', '--image-url', 'https://example.org/x'], 2, 'a VM has one image'],
  [['--name', 'x', '--image-url', 'gopher://x/y'], 2, 'but it has the scheme `gopher`'],
  [['--name', 'x', '--image', 'disc.raw'], 1, 'disc.raw does not exist\nhint: Did you mean "disk.raw"?'],
  [['--name', 'x', '--image', 'disk.raw', '--memory', 'much'], 2, 'must be a size such as 2048 (MiB) or 2GiB'],
  [['--name', 'x', '--image', 'disk.raw', '--disk', '0'], 2, 'must be a whole number of MiB, 1 or more'],
  [['--name', 'x', '--image', 'disk.raw', '--vcpus', '0'], 2, 'must be a whole number of 1 or more'],
  [
    ['--name', 'x', '--image', 'disk.raw', '--bridge', 'a bridge'],
    2,
    '--bridge must be the name of a bridge: "a bridge", but it has a space',
  ],
  [
    ['--name', 'x', '--image', 'disk.raw', '--cloud-init', 'disk.raw', '--ssh-key', 'disk.raw'],
    2,
    '--ssh-key has no effect together with --cloud-init',
  ],
  [['--name', 'x', '--image', 'disk.raw', '--ssh-key', 'VMFile.kdl'], 1, 'VMFile.kdl is empty'],
  [['--name', 'x', '--image', 'disk.raw', '--cloud-init', 'no.yaml'], 1, 'no.yaml does not exist'],
])('create %j is refused with exit code %i', async (words, exitCode, message) => {
  await using rig = await Rig.create();
  await rig.write('VMFile.kdl', '');
  const result = await rig.vmctl(['create', ...words]);
  expect(result.stderr).toContain(message);
  expect(result.exitCode).toBe(exitCode);
  expect(await rig.directories()).toEqual([]);
});

test('create --vnic is refused where QEMU runs the VMs, and taken where nothing is connected', async () => {
  const flags = { name: 'x', image: 'disk.raw', vnic: 'vnic0' };
  await using rig = await Rig.create();
  const place = { cwd: rig.project, home: '/home/me' };
  await expect(specOfFlags(flags, { ...place, backend: 'qemu' })).rejects.toMatchObject({
    code: 'USAGE',
    message: '--vnic needs Propolis, which runs on illumos',
  });
  const { network } = await specOfFlags(flags, { ...place, backend: 'noop' });
  expect(network).toEqual({ kind: 'vnic', vnic: 'vnic0' });
});

test('create refuses a name that is taken, naming whose it is', async () => {
  await using rig = await Rig.create();
  await rig.declare({ web: '' });
  await rig.vmctl(['up']);
  const { exitCode, stderr } = await rig.vmctl(['create', '--name', 'web', '--image', 'disk.raw']);
  expect(exitCode).toBe(1);
  expect(stderr).toContain(`a VM "web" exists already; it belongs to ${rig.project}/VMFile.kdl`);
  expect(await rig.states()).toEqual({ web: 'running' });
});
