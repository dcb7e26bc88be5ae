/** `vm "worker" count=…` on the way through the commands. */
import { expect, test } from 'vitest';
import type { PlannedVm } from '../../src/model/plan.js';
import { Rig } from '../support/rig.js';

/** A database, three workers that need it, and one VM that needs them all. */
async function declared(): Promise<Rig> {
  const rig = await Rig.create();
  await rig.write(
    'VMFile.kdl',
    `vm "front" { image "disk.raw"; depends-on "worker" }
     vm "worker" count=3 {
       image "disk.raw"
       network "user" { forward 0 80 }
       ssh
       depends-on "db"
       provision "shell" run="once" { inline "for all" }
       provision "shell" run="each" { inline "for each" }
     }
     vm "db" { image "disk.raw" }`,
  );
  return rig;
}

const WORKERS = ['worker-1', 'worker-2', 'worker-3'];
const running = (names: readonly string[]) => Object.fromEntries(names.map((name) => [name, 'running']));

test('up with the name of a group brings all of it up, and what it depends on', async () => {
  await using rig = await declared();
  const { exitCode, stderr } = await rig.vmctl(['up', 'worker']);
  expect(stderr).toContain('also bringing up db, needed by these');
  expect(stderr.trimEnd().split('\n').at(-1)).toBe('4 up');
  expect(exitCode).toBe(0);
  expect(await rig.states()).toEqual(running(['db', ...WORKERS]));
});

test('who depends on a group waits for all of it', async () => {
  await using rig = await declared();
  const { stdout } = await rig.vmctl(['up', 'front', '--dry-run', '--json']);
  const { vms }: { vms: readonly PlannedVm[] } = JSON.parse(stdout);
  expect(vms.map(({ name, waitsFor }) => [name, waitsFor])).toEqual([
    ['front', WORKERS],
    ...WORKERS.map((name) => [name, ['db']]),
    ['db', []],
  ]);
});

test('the steps of each VM are run whenever it is provisioned, after those for all', async () => {
  await using rig = await declared();
  const steps = (stderr: string) =>
    [...stderr.matchAll(/worker-2 .*shell (for \w+) \(not run/g)].map(([, step]) => step);
  expect(steps((await rig.vmctl(['up', 'worker-2'])).stderr)).toEqual(['for all', 'for each']);
  await rig.vmctl(['down']);
  expect(steps((await rig.vmctl(['up', 'worker-2'])).stderr)).toEqual(['for each']);
});

test('commands for several VMs take the name of a group for all of it, and the name of one for that one', async () => {
  await using rig = await declared();
  await rig.vmctl(['up']);
  await rig.vmctl(['suspend', 'worker']);
  expect(await rig.states()).toEqual({
    front: 'running',
    db: 'running',
    ...Object.fromEntries(WORKERS.map((name) => [name, 'suspended'])),
  });
  await rig.vmctl(['resume', 'worker', 'worker-1']);
  await rig.vmctl(['stop', 'worker-3']);
  expect(await rig.states()).toMatchObject({ 'worker-1': 'running', 'worker-2': 'running', 'worker-3': 'stopped' });
  await rig.vmctl(['start', 'worker-3']);
  expect((await rig.vmctl(['provision', 'worker'])).exitCode).toBe(0);
  const down = await rig.vmctl(['down', 'worker', '--destroy']);
  expect(down.exitCode).toBe(0);
  expect(await rig.directories()).toEqual(['db', 'front']);
});

test('a group whose VMFile is gone can still be brought down by its name', async () => {
  await using rig = await declared();
  await rig.vmctl(['up']);
  await rig.write('VMFile.kdl', 'no VMFile at all {');
  // The list of VMs may be lost as well: their directories know.
  await rig.write('../data/vmctl/vms.json', 'nonsense');
  expect(await rig.vmctl(['destroy', 'worker'])).toMatchObject({ exitCode: 0 });
  expect(Object.keys(await rig.states())).toEqual(['db', 'front']);
});

test('a VM that is left over from before it became a group goes with it', async () => {
  await using rig = await Rig.create();
  await rig.write('VMFile.kdl', 'vm "worker" { image "disk.raw" }');
  await rig.vmctl(['up']);
  await rig.write('VMFile.kdl', 'vm "worker" count=2 { image "disk.raw" }');
  await rig.vmctl(['up']);
  expect(await rig.states()).toEqual(running(['worker', 'worker-1', 'worker-2']));
  await rig.vmctl(['destroy', 'worker']);
  expect(await rig.states()).toEqual({});
});

test.each([
  [['exec', 'worker', 'true'], 2],
  [['ssh', 'worker'], 2],
  [['cp', 'disk.raw', 'worker:'], 2],
  [['status', 'worker'], 2],
  [['log', 'worker'], 2],
  [['console', 'worker'], 2],
  [['screenshot', 'worker'], 2],
])('%s needs one VM, and names those of the group', async (words, code) => {
  await using rig = await declared();
  await rig.vmctl(['up', 'worker']);
  const { exitCode, stderr } = await rig.vmctl(words);
  expect(stderr).toBe('error: "worker" is 3 VMs, and one is needed\nhint: Name it: worker-1, worker-2, worker-3.\n');
  expect(exitCode).toBe(code);
});

test('a misspelt name is near to those of groups and of their VMs', async () => {
  await using rig = await declared();
  expect((await rig.vmctl(['up', 'wroker'])).stderr).toContain('Did you mean "worker"?');
  await rig.vmctl(['up', 'worker']);
  expect((await rig.vmctl(['stop', 'wroker'])).stderr).toContain('Did you mean "worker"?');
  expect((await rig.vmctl(['status', 'wroker-3'])).stderr).toContain('Did you mean "worker-3"?');
});

test('groups of the same name in two VMFiles are told apart', async () => {
  await using rig = await Rig.create();
  await rig.write('VMFile.kdl', 'vm "worker" count=2 { image "disk.raw" }');
  await rig.write('other/VMFile.kdl', 'vm "worker" count=3 { image "../disk.raw" }');
  await rig.vmctl(['up']);
  expect((await rig.vmctl(['up', 'worker-3'], { cwd: 'other' })).exitCode).toBe(0);
  const { exitCode, stderr } = await rig.vmctl(['destroy', 'worker']);
  expect(stderr).toContain('several VMFiles have a group "worker"');
  expect(exitCode).toBe(2);
  await rig.vmctl(['down', '--destroy', 'worker']);
  expect(Object.keys(await rig.states())).toEqual(['worker-3']);
});

test('list and status tell the group', async () => {
  await using rig = await declared();
  await rig.vmctl(['up', 'worker-2']);
  const { stdout } = await rig.vmctl(['list', '--json']);
  const { vms }: { vms: readonly { name: string; group: string | null }[] } = JSON.parse(stdout);
  expect(vms.map(({ name, group }) => [name, group])).toEqual([
    ['db', null],
    ['worker-2', 'worker'],
  ]);
  expect(JSON.parse((await rig.vmctl(['status', 'worker-2', '--json'])).stdout)).toMatchObject({ group: 'worker' });
});
