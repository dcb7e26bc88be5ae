import { expect, test } from 'vitest';
import { VmctlError } from '../../src/errors.js';
import { Rig } from '../support/rig.js';

async function twoVms(options: Parameters<typeof Rig.create>[0] = {}): Promise<Rig> {
  const rig = await Rig.create(options);
  await rig.declare({ web: '', db: '' });
  await rig.vmctl(['up']);
  return rig;
}

const json = async (rig: Rig, ...words: readonly string[]) =>
  JSON.parse((await rig.vmctl([...words, '--json'])).stdout);

test('crash cuts the power of several VMs at once, and list and status tell when, and not as a problem', async () => {
  await using rig = await twoVms();
  const before = Date.now();
  const { exitCode, stderr } = await rig.vmctl(['crash', 'web', 'db']);
  expect(exitCode).toBe(0);
  expect(stderr).toContain('web │ crash: its power was cut; start it again with: vmctl start web (');
  expect(await rig.states()).toEqual({ web: 'stopped', db: 'stopped' });
  const { powerCutAt, remarks } = await json(rig, 'status', 'web');
  expect(Date.parse(powerCutAt)).toBeGreaterThanOrEqual(before - 1);
  expect(Date.parse(powerCutAt)).toBeLessThanOrEqual(Date.now());
  const remark = { kind: 'on purpose', what: `power cut at ${powerCutAt}`, details: null };
  expect(remarks).toEqual([{ ...remark, next: 'Start it again with: vmctl start web' }]);
  const { vms } = await json(rig, 'list');
  expect(vms[1]).toMatchObject({ name: 'web', problem: null, powerCutAt });
  expect((await rig.vmctl(['list'])).stderr).toContain(`note: web: power cut at ${powerCutAt}. Start it again with`);
});

test('up starts what was crashed, and its power cut is forgotten', async () => {
  await using rig = await twoVms();
  await rig.vmctl(['crash', 'web']);
  expect((await rig.vmctl(['up'])).stderr).toContain('1 up, 1 already up');
  expect(await json(rig, 'status', 'web')).toMatchObject({ state: 'running', powerCutAt: null, remarks: [] });
});

test('a power cut that fails is not told of', async () => {
  await using rig = await twoVms({
    before: async (operation) => {
      if (operation === 'crash') throw new VmctlError('QMP', 'it does not let go');
    },
  });
  expect((await rig.vmctl(['crash', 'web'])).exitCode).toBe(1);
  await rig.vmctl(['stop', 'web']);
  expect(await json(rig, 'status', 'web')).toMatchObject({ state: 'stopped', powerCutAt: null, remarks: [] });
});

test('a cable that was pulled out is told of until it is in again, and is in after a start', async () => {
  await using rig = await twoVms();
  const pulled = await rig.vmctl(['disconnect', 'web', 'db']);
  expect(pulled.stderr).toContain('its outside cable is out; plug it in again with: vmctl connect web --nic outside');
  expect((await json(rig, 'status', 'web')).unplugged).toEqual(['outside']);
  const told =
    'web: its outside cable is out, so vmctl cannot reach its guest. Plug it in again with: vmctl connect web';
  expect((await rig.vmctl(['list'])).stderr).toContain(told);
  expect((await rig.vmctl(['disconnect', 'web'])).stderr).toContain('skipped, its outside cable is out already');
  expect((await rig.vmctl(['connect', 'web', '--nic', 'outside'])).stderr).toContain(
    'connect: its outside cable is in (',
  );
  expect((await rig.vmctl(['connect', 'web'])).stderr).toContain('skipped, its outside cable is in already');
  await rig.vmctl(['crash', 'db']);
  await rig.vmctl(['start', 'db']);
  const { vms } = await json(rig, 'list');
  expect(vms).toMatchObject([{ unplugged: [] }, { unplugged: [] }]);
});

test('on a LAN it is the cable of the LAN, unless the other one is named', async () => {
  await using rig = await Rig.create();
  await rig.declare({ web: 'network "user" { lan "back" }' });
  await rig.vmctl(['up']);
  expect((await rig.vmctl(['disconnect', 'web'])).stderr).toContain(
    'its lan cable is out; plug it in again with: vmctl',
  );
  expect((await rig.vmctl(['list'])).stderr).toContain(
    'web: its lan cable is out. Plug it in again with: vmctl connect',
  );
  await rig.vmctl(['disconnect', 'web', '--nic', 'outside']);
  expect((await json(rig, 'status', 'web')).unplugged).toEqual(['outside', 'lan']);
  await rig.vmctl(['connect', 'web']);
  expect((await json(rig, 'status', 'web')).unplugged).toEqual(['outside']);
});

test('a cable that a VM has not is a mistake that names those it has', async () => {
  await using rig = await Rig.create();
  await rig.declare({ web: '', lonely: 'network "none"' });
  await rig.vmctl(['up']);
  const { exitCode, stderr } = await rig.vmctl(['disconnect', 'web', 'lonely', '--nic', 'lan']);
  expect(exitCode).toBe(2);
  expect(stderr).toContain('VM "web" has no cable "lan"\nhint: It has: outside');
  expect(stderr).toContain('VM "lonely" has no cable "lan"\nhint: Give it a network in the VMFile.');
  expect((await rig.vmctl(['disconnect', 'lonely'])).stderr).toContain('VM "lonely" has no network card');
  expect((await rig.vmctl(['disconnect', 'web', '--nic', 'wlan'])).stderr).toContain(
    'Allowed choices are outside, lan',
  );
});

test.each([[[]], [['--hard']]])('reboot %j leaves VMs running, and up provisions them again', async (flags) => {
  const seen: string[] = [];
  await using rig = await twoVms({ before: async (operation, name) => void seen.push(`${operation} ${name}`) });
  seen.length = 0;
  expect((await rig.vmctl(['reboot', 'web', ...flags])).exitCode).toBe(0);
  expect(seen).toEqual(flags.length === 0 ? ['stop web', 'start web'] : ['reset web']);
  expect(await json(rig, 'status', 'web')).toMatchObject({ state: 'running', provisioning: 'pending' });
  expect((await rig.vmctl(['up'])).stderr).toContain('1 up, 1 already up');
});

test.each(['crash', 'disconnect', 'connect', 'reboot'])(
  '%s of a stopped VM says how to start it, and of one that there is not which is near; the others go on',
  async (word) => {
    await using rig = await twoVms();
    await rig.vmctl(['stop', 'web']);
    const { exitCode, stderr } = await rig.vmctl([word, 'web', 'db', 'bd']);
    expect(exitCode).toBe(1);
    expect(stderr).toContain(`cannot ${word} VM "web": it is stopped\nhint: Start it with: vmctl start web`);
    expect(stderr).toContain('there is no VM "bd"\nhint: Did you mean "db"?');
    expect(stderr).toMatch(new RegExp(`db +│ ${word}: (?!FAILED)`));
  },
);

test('a suspended VM can lose its power and its cable, and has to go on before it is rebooted', async () => {
  await using rig = await twoVms();
  await rig.vmctl(['suspend', 'web']);
  expect((await rig.vmctl(['reboot', 'web'])).stderr).toContain(
    'it is suspended\nhint: Continue it with: vmctl resume web',
  );
  expect((await rig.vmctl(['disconnect', 'web'])).exitCode).toBe(0);
  expect(await json(rig, 'status', 'web')).toMatchObject({ state: 'suspended', unplugged: ['outside'] });
  await rig.vmctl(['crash', 'web']);
  expect(await rig.states()).toEqual({ web: 'stopped', db: 'running' });
});

test('each prints its events as JSON, one a line', async () => {
  await using rig = await twoVms();
  for (const word of ['disconnect', 'connect', 'reboot', 'crash']) {
    const { stdout } = await rig.vmctl([word, 'web', '--json']);
    const events: unknown[] = stdout
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line));
    expect(events).toEqual([
      expect.objectContaining({ vm: 'web', step: word, type: 'started' }),
      expect.objectContaining({ vm: 'web', step: word, type: 'done' }),
    ]);
  }
});
