/** Real guests that do what no guest should: each is told of in its own words, soon, and goes without a trace. */
import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { VM_FILES } from '../../src/paths.js';
import { settlesWithin, waitFor } from '../../src/util/wait.js';
import { floodConsole } from '../support/console-flood.js';
import { guestImage } from '../support/guests.js';
import { MachineRoom, finish, finishUnheard } from '../support/machine-room.js';
import { FULL_RUN } from '../support/random.js';

const MIB = 1024 * 1024;

/** Declares VMs, each with its step. */
async function declare(room: MachineRoom, steps: Readonly<Record<string, string>>): Promise<void> {
  const image = JSON.stringify(await guestImage('pocket'));
  const vm = ([name, step]: readonly [string, string]) => {
    const provision = `provision "shell" { inline ${JSON.stringify(step)} }`;
    return `vm "${name}" { image ${image}; memory 256; cloud-init; ssh; ${provision} }\n`;
  };
  await room.write('VMFile.kdl', Object.entries(steps).map(vm).join(''));
}

test('guests that panic, power off or reboot in the middle of a step fail alone, and are whole again after reload', async () => {
  await using room = await MachineRoom.open();
  const soon = (what: string) => `echo before; (sleep 1; ${what}) & sleep 600`;
  const steps = {
    panics: soon('echo c | sudo tee /proc/sysrq-trigger'),
    ends: soon('sudo poweroff -f'),
    reboots: soon('sudo reboot -f'),
    works: 'echo well',
  };
  await declare(room, steps);
  const up = await room.vmctl('up');
  expect(up.exitCode).toBe(1);
  expect(up.stderr).toContain('1 up, 3 failed');
  for (const name of ['panics', 'ends', 'reboots']) {
    const failure = `error: VM "${name}": provision step 1 of 1 \\(.*\\): the SSH connection .*\n +before\n`;
    expect(up.stderr).toMatch(new RegExp(failure));
  }
  expect(await room.states()).toMatchObject({ ends: 'stopped', works: 'running' });
  expect((await room.vmctl('log', 'panics', '--console')).stdout).toContain('Kernel panic - not syncing');

  await declare(room, { ...steps, panics: 'echo well', ends: 'echo well', reboots: 'echo well' });
  expect(await room.vmctl('reload', 'panics')).toMatchObject({ exitCode: 0 });
  expect(await room.vmctl('up')).toMatchObject({ exitCode: 0 });
  expect(Object.values(await room.states())).toEqual(['running', 'running', 'running', 'running']);
  expect(await room.vmctl('down', '--destroy')).toMatchObject({ exitCode: 0 });
  expect(await room.leftovers()).toEqual([]);
});

// 1 GiB through a serial port takes an emulated guest half an hour.
const FLOOD_MIB = FULL_RUN ? { output: 1024, console: 1024 } : { output: 16, console: 4 };
const MOST_MEMORY = 200 * MIB;

test('a guest that floods a step’s output and its console costs vmctl no memory, and one that ignores the power button is ended', {
  timeout: FULL_RUN ? 7_200_000 : 300_000,
}, async () => {
  await using room = await MachineRoom.open();
  const flood = `yes abcdefghijklmnopqrstuvwxyz | head -c ${FLOOD_MIB.output * MIB}`;
  await declare(room, { floods: `${flood}; sudo killall acpid; echo over` });
  const files = room.paths.vm('floods');
  const up = room.start(['up', '--timeout', '50m']);
  const ofUp = await peakMemory(up.pid ?? 0, finishUnheard(up));
  expect(ofUp.result).toEqual({ exitCode: 0 });
  expect(ofUp.bytes).toBeLessThan(MOST_MEMORY);
  expect((await stat(join(files, VM_FILES.provisionLog))).size).toBeGreaterThan(FLOOD_MIB.output * MIB);

  const consoleBytes = async () => (await stat(join(files, VM_FILES.consoleLog))).size;
  const follower = room.start(['log', 'floods', '--console', '--follow']);
  let followed = 0;
  follower.stdout?.on('data', (chunk: Uint8Array) => (followed += chunk.length));
  const follows = (bytes: number) => async () => (followed > bytes ? true : null);
  const ofFollower = peakMemory(follower.pid ?? 0, finishUnheard(follower));
  expect(await waitFor(follows(0), { timeoutMs: 60_000 })).toBe(true);
  const before = await consoleBytes();
  expect(await room.vmctl('exec', 'floods', '--', floodConsole(FLOOD_MIB.console * MIB))).toMatchObject({
    exitCode: 0,
  });
  expect(await consoleBytes()).toBeGreaterThan(before + FLOOD_MIB.console * MIB);
  expect(await waitFor(follows(FLOOD_MIB.console * MIB), { timeoutMs: 60_000 })).toBe(true);
  follower.kill('SIGINT');
  expect((await ofFollower).bytes).toBeLessThan(MOST_MEMORY);

  const tail = room.start(['log', 'floods', '--console', '-n', '5']);
  const ofTail = await peakMemory(tail.pid ?? 0, finish(tail));
  expect(ofTail.result.stdout.trimEnd().split('\n')).toHaveLength(5);
  expect(ofTail.bytes).toBeLessThan(MOST_MEMORY);

  const down = await room.vmctl('down', '--timeout', '2s');
  expect(down).toMatchObject({ exitCode: 0 });
  expect(down.stderr).toContain('ended by SIGTERM');
  expect(await room.vmctl('down', '--destroy')).toMatchObject({ exitCode: 0 });
  expect(await room.leftovers()).toEqual([]);
});

/** How long it may take until it is looked again: the kernel keeps the peak, and only that of the very end is missed. */
const LOOK_MS = 50;

/** The most memory that a process was seen to have until that was over. */
async function peakMemory<T>(pid: number, over: Promise<T>): Promise<{ readonly bytes: number; readonly result: T }> {
  let bytes = 0;
  do {
    const status = await readFile(`/proc/${pid}/status`, 'utf8').catch(() => '');
    bytes = Math.max(bytes, Number(/VmHWM:\s+(\d+) kB/.exec(status)?.[1] ?? 0) * 1024);
  } while (!(await settlesWithin(over, LOOK_MS)));
  return { bytes, result: await over };
}
