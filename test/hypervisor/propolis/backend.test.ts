/** What is particular to Propolis; what holds for every backend is in `backends.test.ts`. */
import { mkdir, readFile, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import type { RunningVm, StoppedVm } from '../../../src/model/vm.js';
import { listening, quiet } from '../../support/fixtures.js';
import { actAsGuest } from '../../support/propolis-world.js';
import { type PropolisLab, openPropolisLab } from '../lab.js';

const guestOf = ({ handle }: Pick<RunningVm, 'handle'>, act: 'print' | 'power-off', words?: string) =>
  actAsGuest(handle.directory, act, words);

const stopped = (handle: RunningVm['handle']): StoppedVm => ({ state: 'stopped', handle });

async function expectNothingRuns(lab: PropolisLab, handle: RunningVm['handle']): Promise<void> {
  expect(await lab.processes(handle)).toEqual([]);
  expect(Object.keys(lab.host.state.vnics)).toEqual([]);
  expect((await lab.backend.observe(handle)).state).toBe('stopped');
}

describe('preparing a VM', () => {
  test('puts its image on a volume once, and each VM on a clone of it', async () => {
    await using lab = await openPropolisLab();
    const [web, db] = await Promise.all([
      lab.prepare(),
      lab.prepare({ name: 'db', diskBytes: 20 * 1024 ** 2, network: { kind: 'none' } }),
    ]);
    const conversions = lab.host.changes.filter((command) => command.startsWith('qemu-img'));
    expect(conversions).toHaveLength(1);
    const volumes = Object.entries(lab.host.state.volumes);
    const base = volumes.find(([name]) => name.startsWith('rpool/vmctl/images/'));
    expect(base?.[1]).toMatchObject({ content: lab.image.path, bytes: 8 * 1024 ** 2 });
    expect(
      volumes
        .filter(([, { origin }]) => origin === `${base?.[0]}@base`)
        .map(([, { bytes }]) => bytes)
        .toSorted((a, b) => b - a),
    ).toEqual([20 * 1024 ** 2, 8 * 1024 ** 2]);
    await lab.backend.destroy(web, quiet);
    expect(lab.elsewhere()).toContain(base?.[0]);
    await lab.backend.destroy(db, quiet);
    expect(lab.elsewhere()).toEqual([]);
  });

  test('is missed when its volume is gone, and does not need its image any more', async () => {
    await using lab = await openPropolisLab();
    const handle = await lab.prepare();
    await rm(lab.image.path);
    await lab.backend.checkDisk(handle);
    const [disk = ''] = Object.entries(lab.host.state.volumes).flatMap(([name, { origin }]) => (origin ? [name] : []));
    delete lab.host.state.volumes[disk];
    await expect(lab.backend.checkDisk(handle)).rejects.toMatchObject({
      code: 'VM_DAMAGED',
      message: `VM "${handle.name}" is damaged: its disk ${disk} is missing`,
    });
  });

  test('refuses a disk that is smaller than the image, and makes nothing', async () => {
    await using lab = await openPropolisLab();
    await expect(lab.prepare({ diskBytes: 1024 ** 2 })).rejects.toMatchObject({
      code: 'IMAGE_INVALID',
      message: expect.stringContaining('is smaller than the image'),
    });
    expect(lab.host.changes).toEqual([]);
  });

  test('leaves nothing, whichever of its steps fails', async () => {
    await using whole = await openPropolisLab();
    await whole.prepare({ diskBytes: 20 * 1024 ** 2 });
    const steps = whole.host.changes.map((command) => command.split(' ').slice(0, 2).join(' '));
    expect(steps).toEqual([
      'zfs destroy',
      'zfs create',
      'zfs create',
      'qemu-img convert',
      'zfs snapshot',
      'zfs create',
      'zfs clone',
      'zfs set',
    ]);
    for (const [step, what] of steps.entries()) {
      await using lab = await openPropolisLab();
      lab.host.failAt = step;
      await expect(lab.prepare({ diskBytes: 20 * 1024 ** 2 })).rejects.toMatchObject({
        code: 'COMMAND_FAILED',
        message: expect.stringContaining('I/O error'),
      });
      expect([step, what, await lab.left(), lab.elsewhere()]).toEqual([step, what, [], []]);
    }
  });

  test('removes the volumes of a preparation that was killed', async () => {
    await using lab = await openPropolisLab();
    await lab.prepare();
    // As it is when vmctl is killed right before the directory gets its name.
    await rename(lab.paths.vm('web'), lab.paths.vmStaging('web'));
    const before = lab.elsewhere();
    await lab.prepare();
    expect(lab.elsewhere()).toHaveLength(before.length);
    expect(lab.elsewhere()).not.toEqual(before);
  });

  test('tells what it could not take back', async () => {
    await using lab = await openPropolisLab();
    lab.host.failIf = (command) => command.startsWith('zfs set') || command.startsWith('zfs destroy rpool/vmctl/vms');
    const context = listening();
    await expect(lab.prepare({ diskBytes: 20 * 1024 ** 2 }, context)).rejects.toThrow('zfs failed');
    expect(context.lines).toEqual([
      expect.stringMatching(/^the disk rpool\/vmctl\/vms\/web-\S+ is left behind: zfs failed/),
    ]);
  });
});

describe('starting a VM', () => {
  test('gives each its own server, which is asked for exactly this VM', async () => {
    await using lab = await openPropolisLab();
    const first = await lab.run();
    const second = await lab.run({ name: 'db', network: { kind: 'vnic', vnic: 'vnic1' } });
    expect(first.pid).not.toBe(second.pid);
    expect(lab.host.state.vnics['vnic0']?.over).toBe('e1000g0');
    expect(Object.keys(lab.host.state.vnics)).toEqual(['vnic0', 'vnic1']);
    const log = await readFile(join(first.handle.directory, 'propolis.log'), 'utf8');
    expect(log).toMatch(/^listening on 127\.0\.0\.1:\d+\n$/);
  });

  test('leaves nothing running when its VNIC cannot be made', async () => {
    await using lab = await openPropolisLab();
    const handle = await lab.prepare();
    lab.host.failIf = (command) => command.startsWith('dladm create-vnic');
    await expect(lab.backend.start(stopped(handle), quiet)).rejects.toMatchObject({ code: 'COMMAND_FAILED' });
    await expectNothingRuns(lab, handle);
    lab.host.failIf = () => false;
    expect((await lab.backend.start(stopped(handle), quiet)).state).toBe('running');
  });

  test.each([
    [
      'its server ends at once',
      { refuses: 'API version 5 is not at or above 6. OS is too old?' },
      'propolis-server exited with code 1: API version 5',
      'Its virtual machines need a newer release of illumos: update the host.',
    ],
    ['the VM fails', { startFails: true }, 'the VM is Failed right after its start', null],
  ])('leaves nothing running when %s', async (_what, behaviour, message, hint) => {
    await using lab = await openPropolisLab();
    const handle = await lab.prepare();
    await lab.behave(behaviour);
    await expect(lab.backend.start(stopped(handle), quiet)).rejects.toMatchObject({
      code: 'PROPOLIS',
      message: expect.stringContaining(`VM "web" did not start: ${message}`),
      hint,
    });
    await expectNothingRuns(lab, handle);
    await lab.behave({});
    expect((await lab.backend.start(stopped(handle), quiet)).state).toBe('running');
  });

  test('leaves nothing running when the VM does not come to run in time, or somebody interrupts it', async () => {
    await using lab = await openPropolisLab({ limits: { runMs: 50 } });
    const handle = await lab.prepare();
    await lab.behave({ holds: ['Running'] });
    await expect(lab.backend.start(stopped(handle), quiet)).rejects.toMatchObject({
      code: 'PROPOLIS',
      message: expect.stringContaining('the VM did not come to run within 0.05 s'),
    });
    await expectNothingRuns(lab, handle);
    const interrupted = { ...quiet, signal: AbortSignal.abort() };
    await expect(lab.backend.start(stopped(handle), interrupted)).rejects.toMatchObject({ code: 'ABORTED' });
    await expectNothingRuns(lab, handle);
  });

  test('shows the words of the server where its answer has none', async () => {
    await using lab = await openPropolisLab();
    const handle = await lab.prepare();
    lab.host.state.volumes = {};
    // Writes down that the volumes are gone.
    lab.host.execute(['zfs', 'create', '-p', 'rpool/other']);
    await expect(lab.backend.start(stopped(handle), quiet)).rejects.toMatchObject({
      code: 'PROPOLIS',
      message: expect.stringMatching(
        /refused to make the VM: Internal Server Error \(HTTP 500\): failed to create file backend: \/dev\/zvol\/rdsk\/rpool\/vmctl\/vms\/web-\S+: No such file/,
      ),
      fields: { vm: 'web', path: join(handle.directory, 'propolis.log') },
    });
    await expectNothingRuns(lab, handle);
  });

  test('goes on after the host was restarted, which takes the VNICs with it', async () => {
    await using lab = await openPropolisLab();
    const { handle } = await lab.run();
    await guestOf({ handle }, 'power-off');
    lab.host.state.vnics = {};
    await expect.poll(async () => (await lab.backend.observe(handle)).state).toBe('stopped');
    expect((await lab.backend.start(stopped(handle), quiet)).state).toBe('running');
    expect(Object.keys(lab.host.state.vnics)).toEqual(['vnic0']);
    expect(await lab.processes(handle)).toHaveLength(1);
  });
});

describe('a running VM', () => {
  test('is reached at the address that this host has heard of', async () => {
    await using lab = await openPropolisLab();
    const running = await lab.run();
    expect(running.ssh).toBeNull();
    lab.host.state.neighbours = { [running.handle.mac ?? '']: '192.168.1.7' };
    expect(await lab.backend.observe(running.handle)).toMatchObject({ ssh: { host: '192.168.1.7', port: 22 } });
  });

  test('is stopped when its guest has powered off, though its server goes on', async () => {
    await using lab = await openPropolisLab();
    const running = await lab.run();
    await guestOf(running, 'power-off');
    await expect.poll(async () => (await lab.backend.observe(running.handle)).state).toBe('stopped');
    await lab.backend.destroy(running.handle, quiet);
    expect(lab.elsewhere()).toEqual([]);
    expect(await lab.processes(running.handle)).toEqual([]);
  });
});

describe('stopping a VM', () => {
  const neighbours = (running: RunningVm) => ({ [running.handle.mac ?? '']: '192.168.1.7' });

  test('asks the guest, and waits until it has ended', async () => {
    const asked: string[] = [];
    await using lab = await openPropolisLab({
      powerOff: async (handle, ssh) => {
        asked.push(`${handle.name} at ${ssh.host}:${ssh.port}`);
        await guestOf({ handle }, 'power-off');
      },
    });
    const running = await lab.run();
    lab.host.state.neighbours = neighbours(running);
    expect(await lab.backend.stop(running, { graceMs: 20_000 }, quiet)).toBe('guest');
    expect(asked).toEqual(['web at 192.168.1.7:22']);
    await expectNothingRuns(lab, running.handle);
  });

  test('cuts the power of a guest that does not end in time, or cannot be asked', async () => {
    await using lab = await openPropolisLab({ powerOff: async () => {} });
    const running = await lab.run();
    lab.host.state.neighbours = neighbours(running);
    expect(await lab.backend.stop(running, { graceMs: 50 }, quiet)).toBe('halt');
    await expectNothingRuns(lab, running.handle);
    const again = await lab.backend.start(stopped(running.handle), quiet);
    expect(await lab.backend.stop(again, { graceMs: 0 }, quiet)).toBe('halt');
  });

  test('asks a guest again that refused while it was booting', async () => {
    let refusals = 2;
    await using lab = await openPropolisLab({
      powerOff: async (handle) => {
        refusals -= 1;
        if (refusals >= 0) throw new Error('connection refused');
        await guestOf({ handle }, 'power-off');
      },
    });
    const running = await lab.run();
    lab.host.state.neighbours = neighbours(running);
    expect(await lab.backend.stop(running, { graceMs: 20_000 }, quiet)).toBe('guest');
    expect(refusals).toBe(-1);
  });

  test('waits for the end of a VM that is long in ending', async () => {
    await using lab = await openPropolisLab();
    await lab.behave({ holds: ['Destroyed'], holdMs: 300 });
    const running = await lab.run();
    const from = performance.now();
    expect(await lab.backend.stop(running, { graceMs: 0 }, quiet)).toBe('halt');
    expect(performance.now() - from).toBeGreaterThan(250);
  });

  test('kills a server that does not end, and has the kernel forget its VM', async () => {
    await using lab = await openPropolisLab();
    await lab.behave({ ignoresSigterm: true });
    const running = await lab.run();
    expect(await lab.backend.stop(running, { graceMs: 0 }, quiet)).toBe('SIGKILL');
    expect(lab.host.changes).toContain(`bhyvectl --vm=${running.handle.uuid} --destroy`);
    await expectNothingRuns(lab, running.handle);
  });

  test('is done by pfexec where the user is not root', async () => {
    await using lab = await openPropolisLab({ host: { isRoot: false }, isRoot: false });
    const handle = await lab.prepare();
    await lab.backend.destroy(handle, quiet);
    expect(lab.elsewhere()).toEqual([]);
  });
});

describe('what a guest has printed', () => {
  const log = (handle: RunningVm['handle']) => readFile(join(handle.directory, 'console.log'), 'utf8');

  test('is in the log when somebody asks for it, over all its boots', async () => {
    await using lab = await openPropolisLab();
    const running = await lab.run();
    const { handle } = running;
    await guestOf(running, 'print', 'Booting\n');
    await lab.backend.catchUpConsole(handle);
    expect(await log(handle)).toBe('Booting\n');
    await lab.backend.stop(running, { graceMs: 0 }, quiet);
    const again = await lab.backend.start(stopped(handle), quiet);
    await guestOf(again, 'print', 'Booting again\n');
    await lab.backend.catchUpConsole(handle);
    expect(await log(handle)).toBe('Booting\nBooting again\n');
  });

  test('is in the log after a stop, however it came about', async () => {
    await using lab = await openPropolisLab({
      powerOff: async (handle) => {
        await guestOf({ handle }, 'print', 'asked to power off\n');
        await guestOf({ handle }, 'power-off');
      },
    });
    await lab.behave({ holds: ['Destroyed'], holdMs: 500 });
    const running = await lab.run();
    const { handle } = running;
    lab.host.state.neighbours = { [handle.mac ?? '']: '192.168.1.7' };
    expect(await lab.backend.stop(running, { graceMs: 20_000 }, quiet)).toBe('guest');
    // This one has ended before anybody looks whether it has.
    await lab.behave({});
    const again = await lab.backend.start(stopped(handle), quiet);
    await guestOf(again, 'print', 'power cut\n');
    expect(await lab.backend.stop(again, { graceMs: 0 }, quiet)).toBe('halt');
    expect(await log(handle)).toBe('asked to power off\npower cut\n');
  });

  test('is in the log of a VM that did not come to run', async () => {
    await using lab = await openPropolisLab({ limits: { runMs: 50 } });
    const handle = await lab.prepare();
    await lab.behave({ holds: ['Running'], says: 'no bootable device\n' });
    await expect(lab.backend.start(stopped(handle), quiet)).rejects.toMatchObject({ code: 'PROPOLIS' });
    expect(await log(handle)).toBe('no bootable device\n');
  });

  test('does not keep a VM from ending where it cannot be written down', async () => {
    await using lab = await openPropolisLab();
    const running = await lab.run();
    await guestOf(running, 'print', 'lost\n');
    await mkdir(join(running.handle.directory, 'console.log'));
    await expect(lab.backend.catchUpConsole(running.handle)).rejects.toMatchObject({ code: 'STATE_DIRECTORY' });
    expect(await lab.backend.stop(running, { graceMs: 0 }, quiet)).toBe('halt');
    await expectNothingRuns(lab, running.handle);
  });
});

describe('the host', () => {
  const zone = ['0', 'global', 'running', '/', '', 'lipkg', 'shared', '0'];
  const spec = async (lab: PropolisLab, changes = {}) => (await lab.prepare(changes)).spec;

  test('with everything is good enough', async () => {
    await using lab = await openPropolisLab({ host: { zones: [zone] } });
    await lab.backend.checkHost(quiet, await spec(lab));
    const facts = await lab.backend.examineHost(quiet.signal);
    expect(facts.program).toMatchObject({ found: true, version: '0.1.0' });
    expect(facts.needs?.find(({ id }) => id === 'zone')).toMatchObject({
      title: 'zone and brand',
      found: 'global, brand lipkg',
    });
    expect(facts.needs?.map(({ id, problem }) => [id, problem])).toEqual([
      ['bootrom', null],
      ['pool', null],
      ['zone', null],
      ['rights', null],
    ]);
  });

  test('has a global zone also where it is not the first that is told of', async () => {
    const other = ['7', 'web', 'running', '/zones/a:b', 'c624d04f', 'bhyve', 'excl', '7'];
    await using lab = await openPropolisLab({ host: { zones: [other, zone] } });
    const { needs } = await lab.backend.examineHost(quiet.signal);
    expect(needs?.find(({ id }) => id === 'zone')).toMatchObject({ found: 'global, brand lipkg', problem: null });
  });

  test('has no other zone than before when a VM has run and is gone', async () => {
    await using lab = await openPropolisLab({ host: { zones: [zone] } });
    const { handle } = await lab.run();
    await lab.backend.destroy(handle, quiet);
    expect(lab.host.state.zones).toEqual([zone]);
    expect(lab.host.commands.filter((command) => /^zone(?:cfg|adm)/.test(command))).toEqual([]);
    expect(lab.elsewhere()).toEqual([]);
  });

  test.each([
    {
      without: 'propolis-server',
      options: { binary: 'nowhere' },
      message: 'nowhere is not installed or not in PATH',
      hint: 'propolis.binary',
    },
    {
      without: 'the bootrom',
      options: { bootrom: '/nonexistent/OVMF' },
      message: 'there is no bootrom /nonexistent/OVMF',
      hint: 'propolis.bootrom',
    },
    {
      without: 'the pool',
      options: { dataset: 'tank/vms' },
      message: 'the ZFS pool tank cannot be used',
      hint: 'propolis.dataset',
    },
    {
      without: 'the global zone',
      host: { zones: [['7', 'web', ...zone.slice(2)]] },
      message: 'this is the zone web, brand lipkg',
      hint: 'global zone',
    },
    {
      without: 'the rights',
      options: { isRoot: false },
      host: { isRoot: false, pfexecHelps: false },
      message: 'pfexec does not let this user',
      hint: 'usermod',
    },
  ])('without $without is told what to do', async ({ options, host, message, hint }) => {
    await using lab = await openPropolisLab({ ...options, host: { zones: [zone], ...host } });
    await expect(lab.backend.checkHost(quiet)).rejects.toMatchObject({
      code: 'HOST_UNSUPPORTED',
      message: expect.stringContaining(message),
      hint: expect.stringContaining(hint),
    });
  });

  test('refuses a VM whose VNIC belongs to somebody, and one with too many processors', async () => {
    await using lab = await openPropolisLab({ host: { zones: [zone] } });
    const wanted = await spec(lab);
    await expect(lab.backend.checkHost(quiet, { ...wanted, vcpus: 33 })).rejects.toMatchObject({ code: 'UNSUPPORTED' });
    await expect(
      lab.backend.checkHost(quiet, { ...wanted, network: { kind: 'user', forwards: [], lan: null } }),
    ).rejects.toMatchObject({ code: 'UNSUPPORTED', message: expect.stringContaining('use network "vnic"') });
    lab.host.state.vnics = { vnic0: { over: 'e1000g0', mac: '2:8:20:1:2:3' } };
    await expect(lab.backend.checkHost(quiet, wanted)).rejects.toMatchObject({
      code: 'HOST_UNSUPPORTED',
      message: "the VNIC vnic0 is there already and is not this VM's",
    });
  });
});
