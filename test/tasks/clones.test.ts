/** The VMs of a group that start from one frozen VM, on a backend without guests. */
import { readFile, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import type { NoopOperation } from '../../src/hypervisor/noop.js';
import type { PlannedVm } from '../../src/model/plan.js';
import { waitFor } from '../../src/util/wait.js';
import { Rig, gate } from '../support/rig.js';

const GROUP = `vm "worker" count=3 {
  image "disk.raw"
  ssh
  cloud-init
  warm #true
  provision "shell" { inline "for all" }
  provision "shell" run="each" { inline "for each" }
}`;

/** With what the backend was told to do to which VM. */
async function clones(before: (operation: NoopOperation, name: string) => Promise<void> = async () => {}) {
  const told: string[] = [];
  const rig = await Rig.create({
    before: async (operation, name) => {
      told.push(`${operation} ${name}`);
      await before(operation, name);
    },
  });
  await rig.write('VMFile.kdl', GROUP);
  return { rig, told, [Symbol.asyncDispose]: () => rig[Symbol.asyncDispose]() };
}

/** The steps that were run, as `worker-2 for each`. */
function steps(stderr: string): readonly string[] {
  const found = [...stderr.matchAll(/^(\S+) .*shell (for \w+) \(not run/gm)];
  return found.map(([, vm, step]) => `${vm} ${step}`).toSorted((a, b) => (a < b ? -1 : 1));
}

const EACH = ['worker-1 for each', 'worker-2 for each', 'worker-3 for each'];

test('the first of a group is frozen, and the others start from it when it is', async () => {
  const { opened, blocked } = { opened: gate(), blocked: gate() };
  await using world = await clones(async (operation) => {
    if (operation !== 'freeze') return;
    blocked.open();
    await opened.passed;
  });
  const { rig, told } = world;
  const running = rig.vmctl(['up']);
  await blocked.passed;
  // Nobody else has begun by then.
  expect(told).toEqual(['prepare worker-1', 'start worker-1', 'freeze worker-1']);
  opened.open();
  const { exitCode, stderr } = await running;
  expect(exitCode).toBe(0);
  expect(told.filter((what) => what.startsWith('freeze'))).toEqual(['freeze worker-1']);
  expect(steps(stderr)).toEqual(['worker-1 for all', ...EACH].toSorted((a, b) => (a < b ? -1 : 1)));
  expect(stderr.match(/, from what was frozen|from what was frozen$/gm)?.length).toBeGreaterThanOrEqual(2);
});

test('all of them start from what an earlier up has frozen, whichever of them that was', async () => {
  await using world = await clones();
  const { rig, told } = world;
  await rig.vmctl(['up', 'worker-2']);
  expect(told).toContain('freeze worker-2');
  await rig.vmctl(['down', '--destroy']);
  const { stdout } = await rig.vmctl(['up', '--dry-run', '--json']);
  const { vms }: { vms: readonly PlannedVm[] } = JSON.parse(stdout);
  expect(vms.map(({ warm }) => warm?.hit)).toEqual([true, true, true]);
  expect(vms.map((vm) => vm.steps.map(({ runs }) => runs))).toEqual([
    [false, true],
    [false, true],
    [false, true],
  ]);
  told.length = 0;
  const { stderr } = await rig.vmctl(['up']);
  expect(steps(stderr)).toEqual(EACH);
  expect(told.filter((what) => what.startsWith('freeze'))).toEqual([]);
});

test('a step for each is no reason to freeze anew, and one for all is', async () => {
  await using world = await clones();
  const { rig } = world;
  const hits = async () => {
    const { stdout } = await rig.vmctl(['up', '--dry-run', '--json']);
    const { vms }: { vms: readonly PlannedVm[] } = JSON.parse(stdout);
    return new Set(vms.map(({ warm }) => warm?.reason.replace(/^frozen .*/, 'frozen')));
  };
  await rig.vmctl(['up', 'worker-1']);
  await rig.vmctl(['down', '--destroy']);
  await rig.write('VMFile.kdl', GROUP.replace('for each', 'for everyone'));
  expect(await hits()).toEqual(new Set(['frozen']));
  await rig.write('VMFile.kdl', GROUP.replace('for all', 'for most'));
  expect(await hits()).toEqual(
    new Set(['changed since it was frozen: provision step 1 (shell for most), provision step 1 (shell for all)']),
  );
});

test('a group on a LAN starts from one frozen VM too, until somebody else is on it at another address', async () => {
  await using world = await clones();
  const { rig, told } = world;
  const onLan = GROUP.replace('ssh\n', 'ssh\n  network "user" { lan "back" }\n');
  const reasons = async () => {
    const { vms }: { vms: readonly PlannedVm[] } = JSON.parse((await rig.vmctl(['up', '--dry-run', '--json'])).stdout);
    return vms.filter(({ name }) => name.startsWith('worker')).map(({ warm }) => warm?.reason.replace(/ .*/, ''));
  };
  await rig.write('VMFile.kdl', onLan);
  await rig.vmctl(['up']);
  expect(told.filter((what) => what.startsWith('freeze'))).toEqual(['freeze worker-1']);
  await rig.vmctl(['down', '--destroy']);
  expect(await reasons()).toEqual(['frozen', 'frozen', 'frozen']);
  await rig.write('VMFile.kdl', onLan.replace('count=3', 'count=4'));
  expect(await reasons()).toEqual(['frozen', 'frozen', 'frozen', 'frozen']);
  // Its name was not there while the steps ran.
  await rig.write('VMFile.kdl', `${onLan}\nvm "other" { image "disk.raw"; network "user" { lan "back" }; ssh }`);
  expect(await reasons()).toEqual(['changed', 'changed', 'changed']);
});

test('when the first one fails the others start cold, and do not wait for ever', async () => {
  let failed = false;
  await using world = await clones(async (operation, name) => {
    if (operation !== 'start' || name !== 'worker-1' || failed) return;
    failed = true;
    throw new Error('no power');
  });
  const { stderr, exitCode } = await world.rig.vmctl(['up']);
  expect(exitCode).toBe(1);
  expect(await world.rig.states()).toMatchObject({ 'worker-2': 'running', 'worker-3': 'running' });
  expect(stderr).toContain('starts cold');
});

test('one that was made and never started, as vmctl was interrupted, is made anew, and is not just booted', async () => {
  const interruption = new AbortController();
  let armed = false;
  await using world = await clones(async (operation) => {
    if (!armed || operation !== 'start') return;
    // One boots at a time; the others are ready to be started by now.
    const allMade = async () =>
      (await readdir(world.rig.paths.vms)).filter((name) => !name.startsWith('.')).length === 3 ? true : null;
    await waitFor(allMade, { timeoutMs: 20_000 });
    interruption.abort();
    interruption.signal.throwIfAborted();
  });
  const { rig, told } = world;
  await rig.vmctl(['up']);
  await rig.vmctl(['down', '--destroy']);
  armed = true;
  told.length = 0;
  const interrupted = await rig.vmctl(['up', '--parallel', '1'], { signal: interruption.signal });
  expect(interrupted.exitCode).toBe(130);
  armed = false;
  const waiting = Object.keys(await rig.states()).filter((name) => !told.includes(`start ${name}`));
  expect(waiting.length).toBeGreaterThan(0);
  for (const name of waiting) {
    expect(await rig.vmctl(['start', name])).toMatchObject({
      exitCode: 1,
      stderr: expect.stringContaining(`cannot start VM "${name}": vmctl was interrupted while it was restored`),
    });
  }
  told.length = 0;
  const { exitCode, stderr } = await rig.vmctl(['up']);
  expect(exitCode).toBe(0);
  expect(steps(stderr)).toEqual(EACH);
  for (const name of waiting) expect(told).toContain(`destroy ${name}`);
});

test('one whose restoring was interrupted is not rebooted as another one, and reset makes it itself', async () => {
  await using world = await clones();
  const { rig, told } = world;
  await rig.vmctl(['up']);
  const path = join(rig.paths.vm('worker-2'), 'record.json');
  const record = JSON.parse(await readFile(path, 'utf8'));
  await writeFile(path, JSON.stringify({ ...record, warm: { ...record.warm, settled: false } }));
  told.length = 0;
  expect(await rig.vmctl(['reboot', 'worker-2'])).toMatchObject({
    exitCode: 1,
    stderr: expect.stringContaining('vmctl was interrupted while it was restored'),
  });
  expect(told).toEqual([]);
  expect((await rig.vmctl(['reset', 'worker-2'])).exitCode).toBe(0);
  expect((await rig.vmctl(['reboot', 'worker-2'])).exitCode).toBe(0);
});
