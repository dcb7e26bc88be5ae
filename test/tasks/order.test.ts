/** In which order VMs of one file come up: by what depends on what, and by `--boot-first`. */
import { expect, test } from 'vitest';
import type { VmEvent } from '../../src/model/event.js';
import { acquireLock } from '../../src/util/lock.js';
import { Rig, gate } from '../support/rig.js';

/** The events of an `up --json`. */
function eventsOf(stdout: string): readonly VmEvent[] {
  return stdout
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line));
}

/** Where in the stream a step of a VM was done. */
function done(events: readonly VmEvent[], vm: string, step: string): number {
  const index = events.findIndex((event) => event.vm === vm && event.step === step && event.type === 'done');
  if (index === -1) throw new Error(`${vm} has not done ${step}`);
  return index;
}

const STEP = 'ssh\nprovision "shell" { inline "true" }\n';

test('in a diamond each VM starts when those below it are ready, and the two in the middle at the same time', async () => {
  const starting = new Set<string>();
  const both = gate();
  await using rig = await Rig.create({
    before: async (operation, name) => {
      if (operation !== 'start' || (name !== 'left' && name !== 'right')) return;
      starting.add(name);
      if (starting.size === 2) both.open();
      await both.passed;
    },
  });
  const ready = `${STEP} ready { port 80 }`;
  await rig.declare({
    top: `depends-on "left" "right"\n${ready}`,
    left: `depends-on "base"\n${ready}`,
    right: `depends-on "base"\n${ready}`,
    base: ready,
  });
  const { exitCode, stdout } = await rig.vmctl(['up', '--json']);
  expect(exitCode).toBe(0);
  const events = eventsOf(stdout);
  const order = events
    .filter(({ type, step }) => type === 'done' && (step === 'start' || step === 'provision'))
    .map(({ vm, step }) => `${step} ${vm}`);
  expect(order.slice(0, 2)).toEqual(['start base', 'provision base']);
  expect(order.slice(2, 6).toSorted()).toEqual(['provision left', 'provision right', 'start left', 'start right']);
  expect(order.slice(6)).toEqual(['start top', 'provision top']);
  // Being ready is the last thing of the step after which the others start.
  const looked = events.findIndex(
    ({ vm, ...event }) => vm === 'base' && 'line' in event && event.line.startsWith('ready: '),
  );
  expect(looked).toBeGreaterThan(-1);
  expect(looked).toBeLessThan(done(events, 'base', 'provision'));
});

test('with --boot-first no VM is provisioned before all have booted, and depends-on orders the provisioning', async () => {
  const slow = gate();
  let output = '';
  await using rig = await Rig.create({
    before: async (operation, name) => {
      if (operation === 'start' && name === 'db') await slow.passed;
    },
  });
  await rig.declare({ web: `depends-on "db"\n${STEP}`, db: STEP, other: STEP });
  const told = new Set<string>();
  let before = '';
  const running = rig.vmctl(['up', '--boot-first', '--json'], {
    onOutput: (text) => {
      output += text;
      for (const name of ['web', 'other']) {
        if (output.includes(`"vm":"${name}","step":"provision","type":"status","text":"booted; waiting for`))
          told.add(name);
      }
      if (told.size < 2 || before !== '') return;
      before = output;
      slow.open();
    },
  });
  const { exitCode, stdout } = await running;
  expect(exitCode).toBe(0);
  // Both had booted, the one that depends on db too, and nobody was provisioned.
  expect(before).not.toContain('not run: this backend');
  const events = eventsOf(stdout);
  const firstStep = events.findIndex(
    (event) => event.type === 'status' && event.text.includes('not run: this backend'),
  );
  for (const name of ['web', 'db', 'other']) expect(done(events, name, 'start')).toBeLessThan(firstStep);
  const ofWeb = events.findIndex(
    ({ vm, ...event }) => vm === 'web' && 'text' in event && event.text.includes('not run'),
  );
  expect(done(events, 'db', 'provision')).toBeLessThan(ofWeb);
});

test('--boot-first and one boot at a time get along', async () => {
  await using rig = await Rig.create();
  await rig.declare({ a: `depends-on "b"\n${STEP}`, b: `depends-on "c"\n${STEP}`, c: STEP });
  const { exitCode, stdout } = await rig.vmctl(['up', '--parallel', '1', '--json'], {
    variables: { VMCTL_BOOT_FIRST: '1' },
  });
  expect(exitCode).toBe(0);
  const events = eventsOf(stdout);
  const provisioned = ['c', 'b', 'a'].map((name) => done(events, name, 'provision'));
  expect(provisioned).toEqual(provisioned.toSorted((one, other) => one - other));
  expect(done(events, 'a', 'start')).toBeLessThan(done(events, 'c', 'provision'));
});

test('with --boot-first a VM that does not boot keeps nobody waiting, and its dependents are told the chain', async () => {
  await using rig = await Rig.create({
    before: async (operation, name) => {
      if (operation === 'start' && name === 'db') throw new Error('no power');
    },
  });
  await rig.declare({ web: `depends-on "app"\n${STEP}`, app: `depends-on "db"\n${STEP}`, db: STEP, other: STEP });
  const { exitCode, stderr } = await rig.vmctl(['up', '--boot-first']);
  expect(exitCode).toBe(1);
  expect(stderr).toContain(
    '"web" was not provisioned, because "app" failed: "app" was not provisioned, because "db" failed',
  );
  expect(stderr.trimEnd().split('\n').at(-1)).toBe('1 up, 3 failed');
  expect(await rig.states()).toMatchObject({ web: 'running', app: 'running', db: 'stopped', other: 'running' });
});

test('with --boot-first a VM that another process holds is not waited for, because that may wait for one of ours', async () => {
  await using rig = await Rig.create();
  await rig.declare({ web: STEP, db: STEP });
  const release = await acquireLock(rig.paths.vmLock('db'), { command: 'somebody else' });
  let output = '';
  const { exitCode } = await rig.vmctl(['up', '--boot-first', '--json'], {
    onOutput: (text) => {
      output += text;
      if (/"vm":"web","step":"provision","type":"done"/.test(output)) void release();
    },
  });
  expect(exitCode).toBe(0);
  expect(await rig.states()).toEqual({ db: 'running', web: 'running' });
});

test('an interruption ends the wait for the others to boot', async () => {
  const interruption = new AbortController();
  await using rig = await Rig.create({
    before: async (operation, name, signal) => {
      if (operation !== 'start' || name !== 'slow') return;
      await new Promise((_resolve, reject) =>
        signal.addEventListener('abort', () => reject(signal.reason), { once: true }),
      );
    },
  });
  await rig.declare({ quick: STEP, slow: STEP });
  const { exitCode } = await rig.vmctl(['up', '--boot-first'], {
    signal: interruption.signal,
    onOutput: (text) => {
      if (text.includes('booted; waiting for slow to boot')) interruption.abort();
    },
  });
  expect(exitCode).toBe(130);
  expect(await rig.states()).toEqual({ quick: 'stopped', slow: 'stopped' });
});

test('a plan says what is waited for before a VM starts, or before it is provisioned', async () => {
  await using rig = await Rig.create();
  await rig.declare({ web: 'depends-on "db"', db: '' });
  expect((await rig.vmctl(['up', '--dry-run'])).stdout).toContain('    waits for db\n');
  expect((await rig.vmctl(['up', '--dry-run', '--boot-first'])).stdout).toContain('    is provisioned after db\n');
});
