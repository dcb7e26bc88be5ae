/** Warm starts on real guests: what survives, what is new, and what happens when something in between breaks. */
import type { ChildProcess } from 'node:child_process';
import { appendFile, open, readFile, readdir, rm, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { describe, expect, test } from 'vitest';
import type { VmEvent } from '../../src/model/event.js';
import { diskUsage } from '../../src/util/disk-usage.js';
import { guestImage } from '../support/guests.js';
import { MachineRoom, finish } from '../support/machine-room.js';

const PROCESS = 'setsid sh -c "while :; do sleep 1000; done" >/dev/null 2>&1 & echo $! > pid';

async function declare(room: MachineRoom, more = '', level = '#true'): Promise<void> {
  const image = JSON.stringify(await guestImage('pocket'));
  const network = 'network "user" { forward 0 80 }';
  const steps = `provision "shell" { inline "echo provisioned > proof; ${PROCESS.replaceAll('"', '\\"')}" }; ${more}`;
  await room.write(
    'VMFile.kdl',
    `vm "web" { image ${image}; memory 192; cloud-init; ssh; ${network}; warm ${level}; ${steps} }`,
  );
}

async function exec(room: MachineRoom, command: string): Promise<string> {
  const { exitCode, stdout, stderr } = await room.vmctl('exec', 'web', '--', command);
  expect([exitCode, stderr]).toEqual([0, '']);
  return stdout.trim();
}

async function up(room: MachineRoom, ...words: readonly string[]): Promise<string> {
  const { exitCode, stderr } = await room.vmctl('up', ...words);
  expect([exitCode, stderr.trimEnd().split('\n').at(-1)]).toEqual([0, '1 up']);
  return stderr;
}

const destroy = (room: MachineRoom) => room.vmctl('down', '--destroy');

/** The keys of what is frozen, and rests of that. */
const frozen = (room: MachineRoom) => readdir(room.paths.warm).catch(() => []);

async function frozenFolder(room: MachineRoom): Promise<string> {
  const [key = ''] = await frozen(room);
  return join(room.paths.warm, key);
}

/**
 * A guest that nobody has told the time is as far behind as it was frozen ago, which is some seconds. Over SSH it is told
 * the time from before the login that tells it.
 */
async function expectRightClock(room: MachineRoom, way: 'port' | 'ssh'): Promise<void> {
  const { frozenAt } = JSON.parse(await readFile(join(await frozenFolder(room), 'manifest.json'), 'utf8'));
  const asked = Date.now();
  // In whole seconds, of which it is the last one.
  const guest = Number(await exec(room, 'date +%s')) * 1000 + 1000;
  expect(guest).toBeGreaterThan(way === 'port' ? asked - 500 : (Date.parse(frozenAt) + asked) / 2);
  expect(guest).toBeLessThan(Date.now() + 2000);
}

/** Several boots of a guest, in turn. */
const LONG_MS = 900_000;

const isAlive = 'kill -0 $(cat pid) && echo alive';
const random = 'head -c 16 /dev/urandom | od -An -tx1';

/** Runs vmctl and calls `reached` at the first event that is the moment. */
async function until(
  room: MachineRoom,
  words: readonly string[],
  moment: (event: VmEvent) => boolean,
  reached: (child: ChildProcess) => void,
): Promise<boolean> {
  const child = room.start([...words, '--json']);
  const result = finish(child);
  let done = false;
  if (child.stdout === null) throw new Error('vmctl has no stdout');
  for await (const line of createInterface({ input: child.stdout })) {
    const event: VmEvent = JSON.parse(line);
    if (done || !moment(event)) continue;
    done = true;
    reached(child);
  }
  await result;
  return done;
}

test('a later up goes on from the provisioned machine: files and processes are there, the clock is right, random numbers are new', async () => {
  await using room = await MachineRoom.open();
  await declare(room);
  expect(await up(room)).toMatch(/starts cold: nothing was frozen yet[^]*frozen with its memory and disk in/);
  const [cold, coldRandom] = [await exec(room, 'cat pid'), await exec(room, random)];
  expect(await exec(room, isAlive)).toBe('alive');
  const seen = [coldRandom];
  for (let round = 0; round < 2; round += 1) {
    expect((await destroy(room)).exitCode).toBe(0);
    const begun = performance.now();
    expect(await up(room)).toContain('from what was frozen');
    expect(performance.now() - begun).toBeLessThan(60_000);
    expect(await exec(room, `cat proof; cat pid; ${isAlive}`)).toBe(`provisioned\n${cold}\nalive`);
    await expectRightClock(room, 'port');
    seen.push(await exec(room, random));
  }
  expect(new Set(seen).size).toBe(3);
  // And it is a machine like any other: it boots again from its own disk.
  expect((await room.vmctl('stop', 'web')).exitCode).toBe(0);
  expect((await room.vmctl('up')).exitCode).toBe(0);
  expect(await exec(room, 'cat proof')).toBe('provisioned');
  await destroy(room);
  expect(await room.leftovers()).toEqual([]);
});

test('a guest that goes on is told the time before anybody logs in, and over SSH where no program waits at its port', async () => {
  await using room = await MachineRoom.open();
  const settledFirst = async (way: 'port' | 'ssh'): Promise<boolean> => {
    const told = await up(room);
    expect(told).toContain('from what was frozen');
    await expectRightClock(room, way);
    await destroy(room);
    return told.indexOf('setting its clock') < told.indexOf('waiting for SSH');
  };
  await declare(room);
  await up(room);
  expect(await exec(room, "cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' '\\n' | grep -c '/[v]mctl-settle'")).toBe(
    '1',
  );
  await destroy(room);
  expect(await settledFirst('port')).toBe(true);
  await declare(room, 'provision "shell" { inline "sudo rm /dev/ttyS3" }');
  await up(room);
  await destroy(room);
  expect(await settledFirst('ssh')).toBe(false);
  // And where one was there that does not answer.
  for (const key of await frozen(room)) {
    const manifest = join(room.paths.warm, key, 'manifest.json');
    const text = (await readFile(manifest, 'utf8')).replace('"listens": false', '"listens": true');
    await writeFile(manifest, text);
  }
  expect(await settledFirst('ssh')).toBe(true);
});

test('an edited step, or script of one, is told as what made the start cold, and --cold uses nothing', async () => {
  await using room = await MachineRoom.open();
  await room.write('setup.sh', '#!/bin/sh\necho one > script\n', 0o755);
  await declare(room, 'provision "shell" { script "setup.sh" }');
  await up(room);
  const plan = async () => (await room.vmctl('up', '--dry-run')).stdout;
  await destroy(room);
  expect(await plan()).toMatch(/starts from its frozen memory and disk, frozen \d{4}-/);
  await room.write('setup.sh', '#!/bin/sh\necho two > script\n', 0o755);
  expect(await plan()).toContain('starts cold: changed since it was frozen: provision step 2 (shell setup.sh)');
  const { vms } = JSON.parse((await room.vmctl('up', '--dry-run', '--json')).stdout);
  expect(vms[0].warm).toEqual({
    level: 'memory',
    less: null,
    hit: false,
    reason: 'changed since it was frozen: provision step 2 (shell setup.sh)',
  });
  expect(await up(room)).toContain('changed since it was frozen: provision step 2');
  expect(await exec(room, 'cat script')).toBe('two');
  expect(await frozen(room)).toHaveLength(2);
  await destroy(room);
  expect(await up(room, '--cold')).not.toContain('frozen');
  expect(await exec(room, 'cat script')).toBe('two');
});

test('with warm "disk" a later up boots the provisioned disk, and runs no step', async () => {
  await using room = await MachineRoom.open();
  await declare(room, '', '"disk"');
  expect(await up(room)).toContain('frozen with its disk');
  expect(await readdir(await frozenFolder(room))).not.toContain('memory');
  await destroy(room);
  const second = await up(room);
  expect(second).toContain('was done before it was frozen');
  expect(await exec(room, 'cat proof')).toBe('provisioned');
});

describe('what is frozen and then damaged leads to a cold start, and is replaced:', () => {
  const damages: readonly (readonly [string, (folder: string) => Promise<unknown>])[] = [
    ['a byte of the memory', (folder) => poke(join(folder, 'memory'))],
    ['a memory that was cut off', (folder) => truncate(join(folder, 'memory'), 4096)],
    ['a memory that is gone', (folder) => rm(join(folder, 'memory'))],
    ['the state of the devices', (folder) => poke(join(folder, 'state'))],
    ['the disk', (folder) => appendFile(join(folder, 'disk.qcow2'), 'x')],
    ['the manifest', (folder) => writeFile(join(folder, 'manifest.json'), '{')],
  ];

  test(
    'each of them',
    async () => {
      await using room = await MachineRoom.open();
      await declare(room);
      await up(room);
      await destroy(room);
      for (const [name, damage] of damages) {
        await damage(await frozenFolder(room));
        const told = await up(room);
        expect([name, told]).toEqual([name, expect.stringContaining('starts cold: what was frozen is damaged')]);
        expect(told).toContain('frozen with its memory and disk');
        expect(await exec(room, `cat proof; ${isAlive}`)).toBe('provisioned\nalive');
        await destroy(room);
        expect(await frozen(room)).toHaveLength(1);
      }
      expect(await up(room)).toContain('from what was frozen');
    },
    LONG_MS,
  );
});

const isStatus = (step: string, text: string) => (event: VmEvent) =>
  event.step === step && event.type === 'status' && event.text.startsWith(text);

test.each([
  ['freezing, as it begins', isStatus('provision', 'freezing it')],
  ['freezing, when the state is written', isStatus('provision', 'ending QEMU')],
  ['freezing, when it is complete', isStatus('provision', 'going on from')],
  ['freezing, when the VM goes on', isStatus('provision', 'setting its clock')],
])(
  'after kill -9 while %s, the next up has a provisioned machine, and nothing half-made stays',
  async (_name, moment) => {
    await using room = await MachineRoom.open();
    await declare(room);
    expect(await until(room, ['up'], moment, (child) => child.kill('SIGKILL'))).toBe(true);
    expect((await room.vmctl('up')).exitCode).toBe(0);
    expect(await exec(room, 'cat proof')).toBe('provisioned');
    expect(Object.keys(await room.machines())).toEqual(['web']);
    // The lock of a dead process is taken over by whoever wants it next.
    expect((await frozen(room)).filter((name) => name.startsWith('.'))).toEqual([]);
    await destroy(room);
    expect(await room.leftovers()).toEqual([]);
    // Old or new: what is frozen now, if anything, is whole.
    await up(room);
    expect(await exec(room, `cat proof; ${isAlive}`)).toBe('provisioned\nalive');
  },
);

test(
  'after kill -9 while restoring or resetting, the next up has the machine as it was frozen',
  async () => {
    await using room = await MachineRoom.open();
    await declare(room);
    await up(room);
    await destroy(room);
    const ways: readonly (readonly [readonly string[], (event: VmEvent) => boolean])[] = [
      [['up'], (event) => event.step === 'prepare' && event.type === 'started'],
      [['up'], (event) => event.step === 'start' && event.type === 'started'],
      [['up'], isStatus('start', 'waiting for SSH')],
      [['up'], isStatus('start', 'setting its clock')],
    ];
    for (const [words, moment] of ways) {
      expect(await until(room, words, moment, (child) => child.kill('SIGKILL'))).toBe(true);
      await up(room);
      expect(await exec(room, `cat proof; ${isAlive}`)).toBe('provisioned\nalive');
      await destroy(room);
      expect(await room.leftovers()).toEqual([]);
    }
    await up(room);
    for (const text of ['ending it', 'going on from', 'setting its clock']) {
      await exec(room, 'echo dirty > dirt');
      expect(await until(room, ['reset', 'web'], isStatus('reset', text), (child) => child.kill('SIGKILL'))).toBe(true);
      await room.vmctl('up');
      expect((await room.vmctl('reset', 'web')).exitCode).toBe(0);
      expect(await exec(room, `ls dirt 2>/dev/null; ${isAlive}`)).toBe('alive');
      expect(Object.keys(await room.machines())).toEqual(['web']);
    }
  },
  LONG_MS,
);

test(
  'ten resets in a row bring back the same machine on the same ports, and leave nothing behind',
  async () => {
    await using room = await MachineRoom.open();
    await declare(room);
    await up(room);
    const ports = async () => JSON.parse((await room.vmctl('status', 'web', '--json')).stdout).forwards;
    const facts = async () => ({
      files: (await readdir(room.paths.vm('web'))).toSorted(),
      frozen: await frozen(room),
      frozenBytes: await diskUsage(room.paths.warm),
      machines: Object.keys(await room.machines()),
      ports: await ports(),
      locks: (await readdir(room.paths.locks)).toSorted(),
    });
    expect((await room.vmctl('reset', 'web')).exitCode).toBe(0);
    const before = await facts();
    const seen = new Set<string>();
    for (let round = 0; round < 10; round += 1) {
      await exec(room, 'echo dirty > dirt; sudo kill $(cat pid)');
      expect((await room.vmctl('reset', 'web')).exitCode).toBe(0);
      expect(await exec(room, `ls dirt 2>/dev/null; ${isAlive}`)).toBe('alive');
      seen.add(await exec(room, random));
    }
    expect(seen.size).toBe(10);
    expect(await facts()).toEqual(before);
  },
  LONG_MS,
);

async function poke(path: string): Promise<void> {
  const file = await open(path, 'r+');
  try {
    await file.write('x', 100_000);
  } finally {
    await file.close();
  }
}
