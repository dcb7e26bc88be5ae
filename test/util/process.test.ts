import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { afterEach, describe, expect, test } from 'vitest';
import {
  bootId,
  commandLineOf,
  findByCommandLine,
  identifyByCommandLine,
  identifyProcess,
  isSameProcess,
  signalProcess,
} from '../../src/util/process.js';

const children: ChildProcess[] = [];

afterEach(async () => {
  for (const child of children.splice(0)) await end(child);
});

async function start(program: string, ...words: readonly string[]): Promise<{ child: ChildProcess; pid: number }> {
  const child = spawn(program, words, { stdio: ['pipe', 'pipe', 'ignore'] });
  children.push(child);
  await once(child, 'spawn');
  if (child.pid === undefined) throw new Error(`${program} has no pid`);
  return { child, pid: child.pid };
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  child.kill('SIGKILL');
  await once(child, 'exit');
}

/** The pid of a process that has ended and that nobody waits for. */
async function startZombie(): Promise<number> {
  const { child } = await start('sh', '-c', 'sleep 0.1 & echo $!; exec sleep 60');
  const [chunk]: unknown[] = child.stdout === null ? [] : await once(child.stdout, 'data');
  const pid = Number(String(chunk));
  const state = async () => /\) (\S)/.exec(await readFile(`/proc/${pid}/stat`, 'utf8'))?.[1];
  await expect.poll(state).toBe('Z');
  return pid;
}

/** `linux` reads /proc, `darwin` asks ps, which Linux has as well. */
describe.each(['linux', 'darwin'] as const)('a process, looked at as on %s,', (platform) => {
  test('has the same identity each time while it lives, and none afterwards', async () => {
    const { child, pid } = await start('sleep', '60');
    const first = await identifyProcess(pid, platform);
    expect(first).toEqual({ pid, startTime: expect.stringMatching(/\d/) });
    expect(await identifyProcess(pid, platform)).toEqual(first);
    await end(child);
    expect(await identifyProcess(pid, platform)).toBeNull();
  });

  test('that is a zombie does not count as living', async () => {
    expect(await identifyProcess(await startZombie(), platform)).toBeNull();
  });

  test('tells its command line', async () => {
    const { pid } = await start('sleep', '61');
    expect(await commandLineOf(pid, platform)).toEqual(['sleep', '61']);
  });

  test('is found by a word of its command line, unless it is this process', async () => {
    const { pid } = await start('sh', '-c', 'exec sleep 62', 'a-word-of-its-own');
    // The shell's command line is replaced when it executes sleep.
    await expect.poll(() => commandLineOf(pid)).toEqual(['sleep', '62']);
    const found = await findByCommandLine((words) => words.includes('62') && words[0] === 'sleep', platform);
    expect(found).toContainEqual(await identifyProcess(pid, platform));
    const own = await findByCommandLine(() => true, platform);
    expect(own.map((identity) => identity.pid)).not.toContain(process.pid);
  });

  test('of a pid that nobody has is none', async () => {
    expect(await identifyProcess(2 ** 30, platform)).toBeNull();
    expect(await commandLineOf(2 ** 30, platform)).toBeNull();
  });
});

test.each([0, -1, 1.5, Number.NaN, 2 ** 60])('%d is no pid', async (pid) => {
  expect(await identifyProcess(pid)).toBeNull();
});

test('the start time is read after the name, whatever the name holds', async () => {
  const { pid } = await start('bash', '-c', 'printf "a) R 1 (" > /proc/self/comm; read -r _');
  await expect.poll(() => readFile(`/proc/${pid}/comm`, 'utf8')).toBe('a) R 1 (\n');
  const uptimes = (await readFile(`/proc/${pid}/stat`, 'utf8')).split(' ');
  expect((await identifyProcess(pid))?.startTime.split('/')[1]).toBe(uptimes.at(21 + 3));
});

test('two processes that started one after the other differ in their start time or pid', async () => {
  const [one, other] = [await start('sleep', '60'), await start('sleep', '60')];
  expect(await identifyProcess(one.pid)).not.toEqual(await identifyProcess(other.pid));
});

test('a process of the same pid from another boot or another time is not the same', async () => {
  const { pid } = await start('sleep', '60');
  const startTime = (await identifyProcess(pid))?.startTime ?? '';
  expect(startTime.startsWith(`${await bootId()}/`)).toBe(true);
  expect(await isSameProcess({ pid, startTime })).toBe(true);
  expect(await isSameProcess({ pid, startTime: startTime.replace(await bootId(), 'another-boot') })).toBe(false);
  expect(await isSameProcess({ pid, startTime: `${startTime}1` })).toBe(false);
});

test('a process is identified by its command line only where that is as expected', async () => {
  const { pid } = await start('sleep', '60');
  expect(await identifyByCommandLine(pid, (words) => words[1] === '60')).toEqual(await identifyProcess(pid));
  expect(await identifyByCommandLine(pid, (words) => words[1] === '61')).toBeNull();
});

describe('a signal', () => {
  test('reaches the process that is meant', async () => {
    const { child, pid } = await start('sleep', '60');
    const identity = await identifyProcess(pid);
    if (identity === null) throw new Error('sleep is not there');
    const ended = once(child, 'exit');
    expect(await signalProcess(identity, 'SIGTERM')).toBe(true);
    expect(await ended).toEqual([null, 'SIGTERM']);
    expect(await signalProcess(identity, 'SIGTERM')).toBe(false);
  });

  test('never reaches another process that has the pid now', async () => {
    const { child, pid } = await start('sleep', '60');
    expect(await signalProcess({ pid, startTime: 'long ago' }, 'SIGKILL')).toBe(false);
    expect(await identifyProcess(pid)).not.toBeNull();
    expect(child.signalCode).toBeNull();
  });
});
