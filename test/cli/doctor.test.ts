import { chmod, mkdir, readdir, writeFile } from 'node:fs/promises';
import { expect, test } from 'vitest';
import { Rig } from '../support/rig.js';

interface Told {
  readonly able: boolean;
  readonly checks: readonly { id: string; title: string; result: string; found: string; next: readonly string[] }[];
}

async function doctor(rig: Rig, ...words: readonly string[]) {
  const { exitCode, stdout, stderr } = await rig.vmctl(['doctor', '--json', ...words]);
  expect(stderr).toBe('');
  const { able, checks }: Told = JSON.parse(stdout);
  const found = (id: string) =>
    checks.filter((check) => check.id === id).map((check) => `${check.result}: ${check.found}`);
  return { exitCode, able, checks, found };
}

test('doctor tells in a line each what it found, and at the end whether VMs can run', async () => {
  await using rig = await Rig.create();
  await rig.declare({ web: 'memory 512', db: '' });
  const { exitCode, stdout, stderr } = await rig.vmctl(['doctor']);
  expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: 'note: this host can run VMs\n' });
  expect(stdout).toContain(`Node.js            ${process.versions.node}\n`);
  expect(stdout).toMatch(/^ok +backend +noop \(/m);
  expect(stdout).toMatch(/^ok +qemu-img +\d+\.\d+/m);
  expect(stdout).toMatch(new RegExp(`^ok +state directory +${rig.paths.root} \\(made when it is needed\\)$`, 'm'));
  expect(stdout).toMatch(/^ok +disk space +.* free; 2 new disks of the image's size$/m);
  expect(stdout).toMatch(/ the VMs of the VMFile that do not run yet want 1\.5 GiB$/m);
  expect(stdout).toMatch(/^ok +VMFile +.*VMFile\.kdl: 2 VMs$/m);
  expect(stdout).toMatch(/^ok +leftovers +none$/m);
  expect((await rig.vmctl(['doctor'], { variables: { FORCE_COLOR: '1' } })).stdout).toContain('\u001b[32m✔\u001b[39m');
  // It makes nothing.
  expect(await readdir(rig.root)).toEqual(['project']);
});

test('what a VMFile wants is what its VMs do not have yet', async () => {
  await using rig = await Rig.create();
  await rig.declare({ web: 'memory 512', db: 'memory 256\ndisk "1GiB"' });
  await rig.vmctl(['up', 'web']);
  const { found } = await doctor(rig);
  expect(found('space')).toEqual([expect.stringMatching(/free; the VMFile's new disks may grow to 1 GiB$/)]);
  expect(found('memory')).toEqual([expect.stringMatching(/that do not run yet want 256 MiB$/)]);
});

test('mistakes in the VMFile are counted, and are no fault of the host', async () => {
  await using rig = await Rig.create();
  await rig.declare({ web: 'vcpus 0', db: 'memroy 512' });
  const { exitCode, able, checks } = await doctor(rig);
  expect({ exitCode, able }).toEqual({ exitCode: 0, able: true });
  expect(checks.find(({ id }) => id === 'vmfile')).toMatchObject({
    result: 'warning',
    found: expect.stringContaining('has 2 mistakes'),
    next: ['vmctl validate'],
  });
  const missing = await doctor(rig, '--file', 'other.kdl');
  expect(missing.found('vmfile')).toEqual([`warning: there is no VMFile at ${rig.project}/other.kdl`]);
});

test('a mistake in the settings is told beside everything else, with the exit code that it has everywhere', async () => {
  await using rig = await Rig.create();
  await rig.write('package.json', JSON.stringify({ vmctl: { acelerator: 'tcg' } }));
  const { exitCode, able, found, checks } = await doctor(rig);
  expect({ exitCode, able }).toEqual({ exitCode: 3, able: false });
  expect(found('settings')).toEqual([expect.stringContaining('unknown key "acelerator"')]);
  expect(checks.length).toBeGreaterThan(8);
});

test('a host that cannot write its state directory cannot run VMs: exit code 4', async () => {
  await using rig = await Rig.create();
  await writeFile(`${rig.root}/data`, 'in the way');
  const { exitCode, able, found } = await doctor(rig);
  expect({ exitCode, able }).toEqual({ exitCode: 4, able: false });
  expect(found('state')).toEqual([`problem: ${rig.root}/data is not a folder`]);
  expect((await rig.vmctl(['doctor'])).stderr).toBe('note: this host cannot run VMs yet: state directory\n');
});

test('doctor tells of leftovers and damage and changes nothing, not even a damaged list of VMs', async () => {
  await using rig = await Rig.create();
  await rig.declare({ web: '' });
  await rig.vmctl(['up']);
  await mkdir(rig.paths.vmStaging('db'));
  await writeFile(`${rig.paths.vm('web')}/vm.json`, '{');
  await writeFile(rig.paths.registry, '{');
  await chmod(rig.paths.root, 0o755);
  const before = await readdir(rig.paths.root, { recursive: true });
  const { exitCode, checks, found } = await doctor(rig);
  expect(exitCode).toBe(0);
  expect(found('leftovers')).toEqual([
    `warning: ${rig.paths.registry} is damaged`,
    `warning: VM "web" is damaged: ${rig.paths.vm('web')}/vm.json is missing or unreadable`,
    expect.stringContaining('warning: 1 thing left by killed processes, '),
  ]);
  expect(checks.filter(({ id }) => id === 'leftovers').map(({ next }) => next)).toEqual([
    ['vmctl list'],
    ['vmctl destroy web'],
    ['vmctl gc --dry-run'],
  ]);
  expect(found('state')).toEqual([expect.stringContaining('(mode 0755)')]);
  expect(await readdir(rig.paths.root, { recursive: true })).toEqual(before);
});
