/** What holds for every backend: the same transitions, the same refusals, and files that are there completely or not. */
import { mkdir, readFile, readdir, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import type { Hypervisor } from '../../src/hypervisor/hypervisor.js';
import type {
  ObservedVm,
  RunningVm,
  StoppedVm,
  SuspendedVm,
  Transition,
  VmHandle,
  VmState,
} from '../../src/model/vm.js';
import { quiet } from '../support/fixtures.js';
import { type Lab, openNoopLab, openPropolisLab, openQemuLab } from './lab.js';

const BACKENDS = [
  { kind: 'noop', open: openNoopLab, pauses: true, hasCables: true },
  { kind: 'qemu', open: openQemuLab, pauses: true, hasCables: true },
  { kind: 'propolis', open: openPropolisLab, pauses: false, hasCables: false },
] as const;

/** Where each transition leads; what is not here is refused. */
const LEADS_TO: Readonly<Record<VmState, Partial<Record<Transition, VmState>>>> = {
  stopped: { start: 'running' },
  running: {
    ...{ suspend: 'suspended', stop: 'stopped', crash: 'stopped' },
    ...{ reset: 'running', disconnect: 'running', connect: 'running' },
  },
  suspended: {
    ...{ resume: 'running', stop: 'stopped', crash: 'stopped' },
    ...{ disconnect: 'suspended', connect: 'suspended' },
  },
};

const STATES = ['stopped', 'running', 'suspended'] as const;
const TRANSITIONS = ['start', 'stop', 'suspend', 'resume', 'crash', 'reset', 'disconnect', 'connect'] as const;

/** A backend that cannot pause, and knows no cables, has fewer states and transitions; what it does with the others is tested below. */
function abilities(pauses: boolean): {
  readonly states: readonly VmState[];
  readonly transitions: readonly Transition[];
  readonly journey: readonly Transition[];
} {
  if (!pauses) {
    return {
      states: ['stopped', 'running'],
      transitions: ['start', 'stop', 'crash', 'reset'],
      journey: ['start', 'stop', 'start', 'reset', 'crash', 'start', 'stop'],
    };
  }
  const journey = [
    ...(['start', 'suspend', 'resume', 'stop', 'start', 'suspend', 'stop'] as const),
    ...(['start', 'disconnect', 'reset', 'suspend', 'connect', 'disconnect', 'crash', 'start', 'crash'] as const),
  ];
  return { states: STATES, transitions: TRANSITIONS, journey };
}

/** The way to each state from a VM that was just prepared. */
const WAY = { stopped: [], running: ['start'], suspended: ['start', 'suspend'] } as const;

/** Tries the transition, whatever state the VM is in, as one does who looked at it too early. */
async function attempt(backend: Hypervisor, handle: VmHandle, transition: Transition): Promise<unknown> {
  const live = { handle, pid: null, ssh: null, forwards: [], accelerator: 'none', unplugged: [] } as const;
  const stopped: StoppedVm = { state: 'stopped', handle };
  const running: RunningVm = { state: 'running', ...live };
  const suspended: SuspendedVm = { state: 'suspended', pausedBy: 'request', ...live };
  switch (transition) {
    case 'start':
      return backend.start(stopped, quiet);
    case 'stop':
      return backend.stop(running, { graceMs: 0 }, quiet);
    case 'suspend':
      return backend.suspend(running, quiet);
    case 'resume':
      return backend.resume(suspended, quiet);
    case 'crash':
      return backend.crash(running, quiet);
    case 'reset':
      return backend.reset(running, quiet);
    case 'disconnect':
      return backend.setLink(running, { nic: 'outside', up: false }, quiet);
    case 'connect':
      return backend.setLink(running, { nic: 'outside', up: true }, quiet);
  }
}

async function bring(lab: Lab, to: VmState): Promise<VmHandle> {
  const handle = await lab.prepare();
  for (const transition of WAY[to]) await attempt(lab.backend, handle, transition);
  return handle;
}

const state = async ({ backend }: Lab, handle: VmHandle): Promise<ObservedVm['state']> =>
  (await backend.observe(handle)).state;

describe.each(BACKENDS)('the $kind backend', ({ kind, open, pauses }) => {
  const { states, transitions, journey } = abilities(pauses);

  test.each(states)('refuses what is not legal for a %s VM, and does nothing to it', async (from) => {
    await using lab = await open();
    const handle = await bring(lab, from);
    for (const transition of transitions.filter((one) => LEADS_TO[from][one] === undefined)) {
      await expect(attempt(lab.backend, handle, transition)).rejects.toMatchObject({
        code: 'VM_STATE',
        message: expect.stringMatching(`^cannot ${transition} VM "web": it is ${from}, not `),
        fields: { vm: 'web', state: from, transition },
      });
      expect(await state(lab, handle)).toBe(from);
    }
  });

  test('makes every legal transition', async () => {
    await using lab = await open();
    const handle = await lab.prepare();
    let now: VmState = 'stopped';
    for (const transition of journey) {
      await attempt(lab.backend, handle, transition);
      const next: VmState | undefined = LEADS_TO[now][transition];
      expect(await state(lab, handle)).toBe(next);
      now = next ?? now;
    }
  });

  test.each(states)(
    'destroys a %s VM, with every file and process of it, and does not mind doing it twice',
    async (from) => {
      await using lab = await open();
      const handle = await bring(lab, from);
      await lab.backend.destroy(handle, quiet);
      expect(await lab.left()).toEqual([]);
      expect(lab.elsewhere()).toEqual([]);
      expect(await lab.processes(handle)).toEqual([]);
      await lab.backend.destroy(handle, quiet);
      expect(await state(lab, handle)).toBe('stopped');
    },
  );

  test('gives what it has started, and observes the same', async () => {
    await using lab = await open();
    const running = await lab.run();
    expect(running).toMatchObject({ state: 'running', handle: { name: 'web', backend: kind } });
    expect(await lab.backend.observe(running.handle)).toEqual(running);
  });

  test('leaves no process of a VM whose power is cut, everything of its disk, and nothing that looks like damage', async () => {
    await using lab = await open();
    const running = await lab.run();
    const { handle } = running;
    await lab.backend.crash(running, quiet);
    expect(await lab.backend.observe(handle)).toEqual({ state: 'stopped', handle });
    expect(await lab.processes(handle)).toEqual([]);
    expect(await lab.left()).toEqual(['web']);
    await lab.backend.checkDisk(handle);
    expect((await lab.backend.start({ state: 'stopped', handle }, quiet)).state).toBe('running');
  });

  test('resets a VM without making another one of it', async () => {
    await using lab = await open();
    const running = await lab.run();
    await lab.backend.reset(running, quiet);
    expect(await lab.backend.observe(running.handle)).toEqual(running);
  });

  test('removes a VM whose handle is lost, with every process of it', async () => {
    await using lab = await open();
    const { handle } = await lab.run();
    await lab.backend.discard({ name: handle.name, backend: kind, directory: handle.directory });
    expect(await lab.left()).toEqual([]);
    expect(lab.elsewhere()).toEqual([]);
    expect(await lab.processes(handle)).toEqual([]);
  });

  test('prepares a directory for its owner alone, with the handle in it', async () => {
    await using lab = await open();
    const handle = await lab.prepare();
    expect(handle.directory).toBe(lab.paths.vm('web'));
    expect(JSON.parse(await readFile(join(handle.directory, 'vm.json'), 'utf8'))).toEqual(handle);
    expect(await lab.left()).toEqual(['web']);
    expect((await stat(handle.directory)).mode & 0o777).toBe(0o700);
    for (const name of ['id_ed25519_generated', 'id_ed25519_generated.pub', 'known_hosts', 'vm.json']) {
      expect([name, (await stat(join(handle.directory, name))).mode & 0o777]).toEqual([name, 0o600]);
    }
    expect(await readFile(join(handle.directory, 'known_hosts'), 'utf8')).toMatch(/^web ssh-ed25519 \S+\n$/);
  });

  test('leaves nothing of a preparation that is cancelled', async () => {
    await using lab = await open();
    await expect(lab.prepare({}, { ...quiet, signal: AbortSignal.abort() })).rejects.toMatchObject({ code: 'ABORTED' });
    expect(await lab.left()).toEqual([]);
    expect(lab.elsewhere()).toEqual([]);
  });

  test('leaves nothing of a preparation that fails', async () => {
    await using lab = await open();
    // What is in the way of the finished directory.
    await mkdir(join(lab.paths.vm('web'), 'occupied'), { recursive: true });
    await expect(lab.prepare()).rejects.toThrow('ENOTEMPTY');
    expect(await lab.left()).toEqual(['web']);
    expect(lab.elsewhere()).toEqual([]);
    expect(await readdir(lab.paths.vm('web'))).toEqual(['occupied']);
  });

  test('replaces what a preparation that was killed has left', async () => {
    await using lab = await open();
    await mkdir(lab.paths.vmStaging('web'), { recursive: true });
    await writeFile(join(lab.paths.vmStaging('web'), 'id_ed25519_generated'), 'half a key');
    await writeFile(join(lab.paths.vmStaging('web'), 'rubbish'), '');
    const handle = await lab.prepare();
    expect(await lab.left()).toEqual(['web']);
    expect(await readdir(handle.directory)).not.toContain('rubbish');
    expect(await readFile(join(handle.directory, 'id_ed25519_generated'), 'utf8')).toMatch(/^-----BEGIN/);
  });

  test('removes what a removal that was killed has left', async () => {
    await using lab = await open();
    const handle = await lab.prepare();
    await mkdir(join(lab.paths.vms, '.removing-web', 'rest'), { recursive: true });
    await lab.backend.destroy(handle, quiet);
    expect(await lab.left()).toEqual([]);
  });

  test('says whether the console log is written while the guest prints, or has to be asked for', async () => {
    await using lab = await open();
    const { handle } = await lab.run();
    expect(await lab.backend.catchUpConsole(handle)).toBe(kind !== 'propolis');
    await lab.backend.destroy(handle, quiet);
    expect(await lab.backend.catchUpConsole(handle)).toBe(kind !== 'propolis');
    expect(await lab.left()).toEqual([]);
  });

  test('gives a VM the same MAC address each time, and others another', async () => {
    await using lab = await open();
    const mac = async (name: string, project: string | null): Promise<string | null> => {
      const handle = await lab.prepare({ name, project });
      await lab.backend.destroy(handle, quiet);
      return handle.mac;
    };
    const first = await mac('web', '/a/VMFile.kdl');
    expect(first).toMatch(/^52:54:00(:[0-9a-f]{2}){3}$/);
    expect(await mac('web', '/a/VMFile.kdl')).toBe(first);
    const others = [await mac('db', '/a/VMFile.kdl'), await mac('web', '/b/VMFile.kdl'), await mac('web', null)];
    expect(new Set([first, ...others]).size).toBe(4);
  });

  test('gives a VM without a network no MAC address, and no SSH', async () => {
    await using lab = await open();
    const running = await lab.run({ network: { kind: 'none' } });
    expect(running).toMatchObject({ ssh: null, forwards: [], handle: { mac: null } });
  });
});

describe.each(BACKENDS.filter(({ pauses }) => pauses))('the $kind backend, which can pause a VM,', ({ open }) => {
  test('gives what it has paused, and observes the same', async () => {
    await using lab = await open();
    const running = await lab.run();
    const suspended = await lab.backend.suspend(running, quiet);
    expect(suspended).toEqual({ ...running, state: 'suspended', pausedBy: 'request' });
    expect(await lab.backend.observe(running.handle)).toEqual(suspended);
    expect(await lab.backend.resume(suspended, quiet)).toEqual(running);
  });
});

describe.each(BACKENDS.filter(({ pauses }) => !pauses))('the $kind backend, which cannot pause a VM,', ({ open }) => {
  test('says so before anything is tried, and does nothing when it is asked to', async () => {
    await using lab = await open();
    const { handle } = await lab.run();
    const { suspend } = lab.backend.capabilities;
    expect(suspend).toEqual({ supported: false, reason: expect.stringMatching(/./) });
    for (const transition of ['suspend', 'resume'] as const) {
      await expect(attempt(lab.backend, handle, transition)).rejects.toMatchObject({
        code: 'UNSUPPORTED',
        message: expect.stringMatching(`^VM "web" cannot be ${transition}`),
      });
    }
    expect(await state(lab, handle)).toBe('running');
  });
});

describe.each(BACKENDS.filter(({ hasCables }) => hasCables))('the $kind backend, which knows cables,', ({ open }) => {
  test('tells which ones are out until they are in again, whatever happens to the VM meanwhile', async () => {
    await using lab = await open();
    const running = await lab.run();
    const { handle } = running;
    const unplugged = async () => {
      const vm = await lab.backend.observe(handle);
      return vm.state === 'stopped' ? null : vm.unplugged;
    };
    await lab.backend.setLink(running, { nic: 'outside', up: false }, quiet);
    await lab.backend.setLink(running, { nic: 'outside', up: false }, quiet);
    expect(await unplugged()).toEqual(['outside']);
    await lab.backend.reset(running, quiet);
    const suspended = await lab.backend.suspend(running, quiet);
    expect(await unplugged()).toEqual(['outside']);
    await lab.backend.resume(suspended, quiet);
    expect(await unplugged()).toEqual(['outside']);
    await lab.backend.setLink(running, { nic: 'outside', up: true }, quiet);
    await lab.backend.setLink(running, { nic: 'outside', up: true }, quiet);
    expect(await lab.backend.observe(handle)).toEqual(running);
  });

  test('plugs them in when the VM is started', async () => {
    await using lab = await open();
    const running = await lab.run();
    const { handle } = running;
    await lab.backend.setLink(running, { nic: 'outside', up: false }, quiet);
    await lab.backend.stop(running, { graceMs: 0 }, quiet);
    expect((await lab.backend.start({ state: 'stopped', handle }, quiet)).unplugged).toEqual([]);
  });
});

describe.each(BACKENDS.filter(({ hasCables }) => !hasCables))(
  'the $kind backend, which knows no cables,',
  ({ open }) => {
    test('says so before anything is tried, and does nothing when it is asked to', async () => {
      await using lab = await open();
      const running = await lab.run();
      expect(lab.backend.capabilities.links).toEqual({ supported: false, reason: expect.stringMatching(/./) });
      for (const transition of ['disconnect', 'connect'] as const) {
        await expect(attempt(lab.backend, running.handle, transition)).rejects.toMatchObject({
          code: 'UNSUPPORTED',
          message: expect.stringMatching('^a cable of VM "web" cannot be unplugged: Propolis '),
        });
      }
      expect(await lab.backend.observe(running.handle)).toEqual(running);
    });
  },
);

describe('the noop backend', () => {
  test('tells of every change before it makes it, and makes none when that fails', async () => {
    const seen: string[] = [];
    const before = async (operation: string, name: string) => {
      seen.push(`${operation} ${name}`);
      if (operation === 'suspend') throw new Error('not today');
    };
    await using lab = await openNoopLab({ before });
    const running = await lab.run();
    await expect(lab.backend.suspend(running, quiet)).rejects.toThrow('not today');
    expect(await state(lab, running.handle)).toBe('running');
    await lab.backend.stop(running, { graceMs: 0 }, quiet);
    await lab.backend.destroy(running.handle, quiet);
    expect(seen).toEqual(['prepare web', 'start web', 'suspend web', 'stop web', 'destroy web']);
  });

  test('leaves nothing of a preparation that is interrupted half-way', async () => {
    const controller = new AbortController();
    const before = async (_operation: string, _name: string, signal: AbortSignal) => {
      controller.abort();
      signal.throwIfAborted();
    };
    await using lab = await openNoopLab({ before });
    await expect(lab.prepare({}, { ...quiet, signal: controller.signal })).rejects.toThrow('aborted');
    expect(await lab.left()).toEqual([]);
  });
});
