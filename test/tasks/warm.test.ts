/** The flow around frozen VMs, on a backend without guests; test/e2e/warm.test.ts has real ones. */
import { mkdir, readdir, rm, utimes, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { describe, expect, test } from 'vitest';
import type { Capability } from '../../src/hypervisor/hypervisor.js';
import { NoopBackend } from '../../src/hypervisor/noop.js';
import { chooseFrozen } from '../../src/warm/policy.js';
import { differences, digestOf, keyOf } from '../../src/warm/key.js';
import { Rig, gate } from '../support/rig.js';

const WARM = 'ssh\nwarm #true\nprovision "shell" { inline "echo hello" }';

async function rigOf(operations: string[] = []): Promise<Rig> {
  const rig = await Rig.create({ before: async (operation) => void operations.push(operation) });
  await rig.declare({ web: WARM });
  return rig;
}

const frozen = (rig: Rig) => readdir(rig.paths.warm).catch(() => []);

test('the first up freezes what it has provisioned, and the next one restores it and runs no step', async () => {
  const operations: string[] = [];
  await using rig = await rigOf(operations);
  const first = await rig.vmctl(['up']);
  expect(first.stderr).toContain('starts cold: nothing was frozen yet');
  expect(operations).toEqual(['prepare', 'start', 'freeze', 'stop', 'start']);
  await rig.vmctl(['down', '--destroy']);
  operations.length = 0;
  const second = await rig.vmctl(['up']);
  expect(second).toMatchObject({ exitCode: 0, stderr: expect.stringContaining('was done before it was frozen') });
  expect(second.stderr).not.toContain('echo hello');
  expect(operations).toEqual(['prepare', 'start']);
  const status = JSON.parse((await rig.vmctl(['status', 'web', '--json'])).stdout);
  expect(status).toMatchObject({ state: 'running', provisioning: 'done' });
  expect((await rig.vmctl(['up'])).stderr).toContain('1 already up');
  expect((await rig.vmctl(['doctor'])).stdout).toContain('; frozen VMs take ');
});

test('without warm nothing is frozen, and neither with --cold nor with VMCTL_WARM=0', async () => {
  await using rig = await Rig.create();
  await rig.declare({ web: WARM.replace('warm #true', '') });
  await rig.vmctl(['up']);
  await rig.vmctl(['down', '--destroy']);
  await rig.declare({ web: WARM });
  await rig.vmctl(['up', '--cold']);
  await rig.vmctl(['down', '--destroy']);
  await rig.vmctl(['up'], { variables: { VMCTL_WARM: '0' } });
  expect(await frozen(rig)).toEqual([]);
});

test('the setting warm is for VMs whose VMFile says nothing', async () => {
  await using rig = await Rig.create();
  await rig.declare({ said: WARM.replace('#true', '#false'), silent: WARM.replace('warm #true', '') });
  await rig.vmctl(['up'], { variables: { VMCTL_WARM: 'true' } });
  const { frozen: rows } = JSON.parse((await rig.vmctl(['warm', 'list', '--json'])).stdout);
  expect(rows).toMatchObject([{ name: 'silent', level: 'memory', users: ['silent'] }]);
});

test.each([
  ['vcpus', 'vcpus 3'],
  ['memory', 'memory 512'],
  ['provision step 2 (shell echo more)', 'provision "shell" { inline "echo more" }'],
  ['cloud-init', 'cloud-init { hostname "other" }'],
])('a change of %s is told as the reason of a cold start', async (what, line) => {
  await using rig = await rigOf();
  await rig.vmctl(['up']);
  await rig.vmctl(['down', '--destroy']);
  await rig.declare({ web: `${WARM}\n${line}` });
  const { stdout } = await rig.vmctl(['up', '--dry-run']);
  expect(stdout).toContain(`starts cold: changed since it was frozen: ${what}`);
});

test('another key to log in with is told as the reason of a cold start, unless the VM has one of its own', async () => {
  await using rig = await Rig.create();
  await rig.declare({ own: `${WARM}\ncloud-init`, web: WARM });
  const key = join(rig.root, 'home', '.ssh', 'id_ed25519');
  await mkdir(dirname(key), { recursive: true });
  await writeFile(key, 'the former one');
  await rig.vmctl(['up']);
  await rig.vmctl(['down', '--destroy']);
  await writeFile(key, 'another one');
  const [own = '', web = ''] = (await rig.vmctl(['up', '--dry-run'])).stdout.split(/^(?=web)/m);
  expect(own).toContain('starts from its frozen memory and disk');
  expect(web).toContain('starts cold: changed since it was frozen: ssh key');
});

test('forwards do not make a start cold', async () => {
  await using rig = await rigOf();
  await rig.vmctl(['up']);
  await rig.vmctl(['down', '--destroy']);
  await rig.declare({ web: `${WARM}\nnetwork "user" { forward 0 80 }` });
  expect((await rig.vmctl(['up', '--dry-run'])).stdout).toContain('starts from its frozen memory and disk');
});

test.each([
  ['state', /starts cold: what was frozen is damaged: the state of its devices is gone/],
  ['origin.json', /starts cold: the frozen VM in .* is not complete: origin\.json cannot be read/],
])('a frozen VM without its %s leads to a cold start, and is replaced', async (file, words) => {
  await using rig = await rigOf();
  await rig.vmctl(['up']);
  await rig.vmctl(['down', '--destroy']);
  const [key = ''] = await frozen(rig);
  await rm(join(rig.paths.frozen(key), file));
  const again = await rig.vmctl(['up']);
  expect(again.exitCode).toBe(0);
  expect(again.stderr).toMatch(words);
  expect(await frozen(rig)).toEqual([key]);
  await rig.vmctl(['down', '--destroy']);
  expect((await rig.vmctl(['up'])).stderr).toContain('from what was frozen');
});

test('a VM that could not be frozen runs nevertheless', async () => {
  await using rig = await Rig.create({
    before: async (operation) => {
      if (operation === 'freeze') throw new Error('no space left');
    },
  });
  await rig.declare({ web: WARM });
  const up = await rig.vmctl(['up']);
  expect(up.exitCode).toBe(0);
  expect(up.stderr).toContain('it was not frozen, so the next one starts cold: ');
  expect(await rig.states()).toEqual({ web: 'running' });
  expect(await frozen(rig)).toEqual([]);
});

test('a VM for whose memory there is no space is not frozen, says so once, and keeps none of its group waiting', async () => {
  const asked: string[] = [];
  const memoryRoom = (name: string): Capability => {
    asked.push(name);
    return name === 'web-1' ? { supported: false, reason: 'the disk is small' } : { supported: true };
  };
  const other = gate();
  // The first one starts only when the second does.
  const before = async (operation: string, name: string) => {
    if (operation !== 'start') return;
    if (name === 'web-2') other.open();
    await other.passed;
  };
  await using rig = await Rig.create({ backend: () => new NoopBackend({ memoryRoom, before }) });
  const steps = 'provision "shell" { inline "true" }';
  await rig.write('VMFile.kdl', `vm "web" count=2 { image "disk.raw"; ssh; warm #true; ${steps} }`);
  const up = await rig.vmctl(['up', '--parallel', '2']);
  expect(up.stderr.match(/frozen: .*/g)).toEqual(['frozen: the disk is small']);
  expect(up).toMatchObject({
    exitCode: 0,
    stderr: expect.stringContaining('web-2 │ provision: frozen with its memory'),
  });
  expect(asked).toEqual(['web-1', 'web-2']);
  expect(await readdir(rig.paths.vm('web-1'))).not.toContain('memory');
});

test('reset takes a VM back, whatever state it is in, and refuses one that was never frozen', async () => {
  const operations: string[] = [];
  await using rig = await rigOf(operations);
  await rig.declare({ web: WARM, other: '' });
  await rig.vmctl(['up']);
  operations.length = 0;
  expect((await rig.vmctl(['reset', 'web'])).exitCode).toBe(0);
  expect(operations).toEqual(['stop', 'start']);
  await rig.vmctl(['stop', 'web']);
  expect((await rig.vmctl(['reset', 'web'])).exitCode).toBe(0);
  await rig.vmctl(['suspend', 'web']);
  expect((await rig.vmctl(['reset', 'web'])).exitCode).toBe(0);
  await rig.vmctl(['suspend', 'web', '--to-disk']);
  expect((await rig.vmctl(['reset', 'web'])).exitCode).toBe(0);
  // Secrets of a memory that nobody goes back to would stay on the disk.
  expect(await readdir(rig.paths.vm('web'))).not.toContain('suspended.state');
  await rig.vmctl(['snapshot', 'web', 'one']);
  expect((await rig.vmctl(['reset', 'web'])).exitCode).toBe(0);
  expect((await rig.vmctl(['restore', 'web', 'one'])).exitCode).toBe(0);
  expect((await rig.vmctl(['reset', 'web'])).exitCode).toBe(0);
  expect(await rig.states()).toEqual({ web: 'running', other: 'running' });
  const refused = await rig.vmctl(['reset', 'other']);
  expect(refused.exitCode).toBe(1);
  expect(refused.stderr).toContain('VM "other" cannot be reset: it was never frozen');
});

test('a reset that fails before the VM has another disk leaves it as it was', async () => {
  const operations: string[] = [];
  await using rig = await rigOf(operations);
  await rig.vmctl(['up']);
  const [key = ''] = await frozen(rig);
  await rm(join(rig.paths.frozen(key), 'origin.json'));
  expect((await rig.vmctl(['reset', 'web'])).exitCode).toBe(1);
  operations.length = 0;
  expect((await rig.vmctl(['up'])).exitCode).toBe(0);
  expect(operations).toEqual(['start']);
});

describe('a VM whose restoring was interrupted', () => {
  const interrupt = async (rig: Rig): Promise<void> => {
    await rig.vmctl(['up']);
    const [key = ''] = await frozen(rig);
    const record = { provisioning: 'pending', steps: [], warm: { key, settled: false }, lastFailure: null };
    await writeFile(join(rig.paths.vm('web'), 'record.json'), JSON.stringify(record));
  };

  test('is made anew by up, and cannot just be resumed', async () => {
    const operations: string[] = [];
    await using rig = await rigOf(operations);
    await interrupt(rig);
    await rig.vmctl(['suspend', 'web']);
    const resumed = await rig.vmctl(['resume', 'web']);
    expect(resumed).toMatchObject({
      exitCode: 1,
      stderr: expect.stringContaining('interrupted while it was restored'),
    });
    operations.length = 0;
    expect((await rig.vmctl(['up'])).exitCode).toBe(0);
    expect(operations).toEqual(['destroy', 'prepare', 'start']);
  });

  test('is settled by going back to a snapshot of it, and has none taken before', async () => {
    const operations: string[] = [];
    await using rig = await rigOf(operations);
    await rig.vmctl(['up']);
    await rig.vmctl(['snapshot', 'web', 'one']);
    await interrupt(rig);
    const taken = await rig.vmctl(['snapshot', 'web', 'two']);
    expect(taken).toMatchObject({
      exitCode: 1,
      stderr: expect.stringContaining('cannot snapshot VM "web": vmctl was interrupted while it was restored'),
    });
    expect((await rig.vmctl(['restore', 'web', 'one'])).exitCode).toBe(0);
    operations.length = 0;
    expect((await rig.vmctl(['up'])).stderr).toContain('1 already up');
    expect(operations).toEqual([]);
  });

  test('is a VM like any other once it was booted', async () => {
    const operations: string[] = [];
    await using rig = await rigOf(operations);
    await interrupt(rig);
    await rig.vmctl(['stop', 'web']);
    await rig.vmctl(['start', 'web']);
    operations.length = 0;
    expect((await rig.vmctl(['up'])).exitCode).toBe(0);
    expect(operations).toEqual([]);
  });
});

test('warm prune leaves what a VM stands on, and gc what a living process makes; rests of dead ones go', async () => {
  await using rig = await rigOf();
  await rig.vmctl(['up']);
  const [key = ''] = await frozen(rig);
  await rig.vmctl(['warm', 'prune', '--keep-size', '0']);
  expect(await frozen(rig)).toEqual([key]);
  await mkdir(rig.paths.frozenStaging('0'.repeat(32)));
  await writeFile(join(rig.paths.frozenStaging('0'.repeat(32)), 'state'), 'x');
  const { stdout } = await rig.vmctl(['gc', '--dry-run', '--json']);
  expect(JSON.parse(stdout).items).toMatchObject([
    { what: 'frozen VM', path: rig.paths.frozenStaging('0'.repeat(32)) },
  ]);
  await rig.vmctl(['gc']);
  expect(await frozen(rig)).toEqual([key]);
  await rig.vmctl(['down', '--destroy']);
  const old = new Date(Date.now() - 3 * 86_400_000);
  await utimes(rig.paths.frozen(key), old, old);
  await rig.vmctl(['warm', 'prune', '--older-than', '7d']);
  expect(await frozen(rig)).toEqual([key]);
  await rig.vmctl(['warm', 'prune', '--older-than', '2d']);
  expect(await frozen(rig)).toEqual([]);
});

describe('a key', () => {
  test('does not depend on the order in which things are said', () => {
    expect(keyOf({ a: '1', b: '2' })).toBe(keyOf({ b: '2', a: '1' }));
    expect(digestOf({ x: [1, { p: 1, q: 2 }] })).toBe(digestOf({ x: [1, { q: 2, p: 1 }] }));
    expect(digestOf([1, 2])).not.toBe(digestOf([2, 1]));
  });

  test('has parts, and those that are others are named', () => {
    expect(differences({ a: '1', b: '2', gone: '3' }, { a: '1', b: '9', added: '4' })).toEqual(['b', 'added', 'gone']);
  });
});

describe('of frozen VMs', () => {
  const of = (key: string, lastUsedAt: number, more = {}) => ({
    key,
    lastUsedAt,
    bytes: 10,
    broken: false,
    users: [],
    ...more,
  });
  const policy = { olderThanSeconds: null, budgetBytes: null, now: 100_000 };
  const keys = (...parameters: Parameters<typeof chooseFrozen>) => chooseFrozen(...parameters).map(({ key }) => key);

  test('those that were used longest ago go until the others fit', () => {
    const all = [of('new', 3), of('old', 1), of('middle', 2)];
    expect(keys(all, { ...policy, budgetBytes: 20 })).toEqual(['old']);
    expect(keys(all, { ...policy, budgetBytes: 9 })).toEqual(['old', 'middle', 'new']);
  });

  test('one that a VM stands on stays, and counts', () => {
    const all = [of('used', 1, { users: ['web'], broken: true }), of('free', 2)];
    expect(keys(all, { ...policy, budgetBytes: 10 })).toEqual(['free']);
  });

  test('broken ones go, and old ones where that is asked for', () => {
    expect(keys([of('broken', 99_000, { broken: true }), of('old', 1000)], policy)).toEqual(['broken']);
    expect(keys([of('new', 99_000), of('old', 1000)], { ...policy, olderThanSeconds: 60 })).toEqual(['old']);
  });
});
