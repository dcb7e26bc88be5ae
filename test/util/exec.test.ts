import { mkdir, readFile, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { runCommand, runInteractive, startDetached, tailOfFile } from '../../src/util/exec.js';
import { type ProcessIdentity, identifyProcess, signalProcess } from '../../src/util/process.js';
import { type TemporaryDirectory, temporaryDirectory } from '../support/fixtures.js';
import { type Script, bundleScript } from './actor.js';

const MISSING = '/nonexistent/program';

let script: Script;
let directory: TemporaryDirectory;
const left: ProcessIdentity[] = [];

beforeAll(async () => {
  script = await bundleScript('worker');
});

afterAll(() => script[Symbol.asyncDispose]());

beforeEach(async () => {
  directory = await temporaryDirectory();
});

afterEach(async () => {
  await script.killAll();
  for (const identity of left.splice(0)) await signalProcess(identity, 'SIGKILL');
  await directory[Symbol.asyncDispose]();
});

const sh = (command: string, options?: Parameters<typeof runCommand>[2]) => runCommand('sh', ['-c', command], options);

/** The process whose pid stands in a file; ended after the test at the latest. */
async function processIn(file: string): Promise<ProcessIdentity> {
  const read = () => readFile(join(directory.path, file), 'utf8').catch(() => '');
  await expect.poll(read).toMatch(/^\d+\n$/);
  const identity = await identifyProcess(Number(await read()));
  if (identity === null) throw new Error(`the process of ${file} is gone`);
  left.push(identity);
  return identity;
}

describe('a program', () => {
  test('gives what it printed', async () => {
    expect(await sh('echo out; echo err >&2')).toEqual({ stdout: 'out', stderr: 'err' });
  });

  test('gets its words as they are, with no shell between', async () => {
    const words = ['$(date)', '; exit 3', 'a\'b"c', '*', '', 'two\nlines'];
    const { stdout } = await runCommand('printf', ['%s|', ...words]);
    expect(stdout).toBe(words.map((word) => `${word}|`).join(''));
  });

  test('runs in the locale C, in the folder that is asked for, with nothing or the given text on stdin', async () => {
    expect(await sh('echo "$LC_ALL"; pwd; cat', { cwd: directory.path })).toEqual({
      stdout: `C\n${directory.path}`,
      stderr: '',
    });
    expect((await sh('cat', { input: 'text' })).stdout).toBe('text');
  });

  test('that is not installed is named, with the next step', async () => {
    await expect(runCommand(MISSING, [])).rejects.toMatchObject({
      code: 'HOST_UNSUPPORTED',
      message: `${MISSING} is not installed or not in PATH`,
      hint: `Install ${MISSING} and try again.`,
      fields: { program: MISSING },
    });
  });

  test('that may not be executed is named as such', async () => {
    const program = join(directory.path, 'program');
    await writeFile(program, '#!/bin/sh\n');
    await expect(runCommand(program, [])).rejects.toMatchObject({
      code: 'HOST_UNSUPPORTED',
      message: `${program} may not be executed by this user`,
    });
  });

  test('that fails is quoted: the last line in the message, all of them in the details', async () => {
    await expect(sh('echo progress; echo first >&2; echo last >&2; exit 3')).rejects.toMatchObject({
      code: 'COMMAND_FAILED',
      message: 'sh failed with exit code 3: last',
      details: 'first\nlast',
      fields: { program: 'sh', exitCode: 3 },
    });
  });

  test('that fails with words on stdout only, or with none, says that', async () => {
    await expect(sh('echo words; exit 1')).rejects.toMatchObject({ message: 'sh failed with exit code 1: words' });
    await expect(sh('exit 1')).rejects.toMatchObject({ message: 'sh failed with exit code 1', details: null });
  });

  test('that is killed from outside is an error without an exit code', async () => {
    await expect(sh('kill -9 $$')).rejects.toMatchObject({
      code: 'COMMAND_FAILED',
      message: expect.stringContaining('SIGKILL'),
      fields: { program: 'sh', exitCode: null },
    });
  });

  test('that takes too long is ended', async () => {
    const cwd = directory.path;
    const running = sh('echo $$ > pid; echo still at it >&2; exec sleep 60', { cwd, timeoutMs: 5_000 });
    await expect(running).rejects.toMatchObject({
      code: 'COMMAND_FAILED',
      message: 'sh did not finish within 5000 ms: still at it',
    });
    expect(await identifyProcess(Number(await readFile(join(cwd, 'pid'), 'utf8')))).toBeNull();
  });

  test('that is cancelled is ended', async () => {
    const controller = new AbortController();
    const options = { cwd: directory.path, signal: controller.signal };
    const outcome = sh('echo $$ > pid; exec sleep 60', options).catch((error: unknown) => error);
    const { pid } = await processIn('pid');
    controller.abort();
    expect(await outcome).toMatchObject({ code: 'ABORTED' });
    expect(await identifyProcess(pid)).toBeNull();
  });

  test('that is cancelled before it begins is never started', async () => {
    for (let round = 0; round < 10; round += 1) {
      const options = { cwd: directory.path, signal: AbortSignal.abort() };
      await expect(runCommand('mkdir', [`here-${round}`], options)).rejects.toMatchObject({ code: 'ABORTED' });
    }
    expect(await readdir(directory.path)).toEqual([]);
  });
});

describe('a program with the terminal', () => {
  test('hands on its exit code, or 128 and the number of the signal that ended it', async () => {
    const cwd = directory.path;
    expect(await runInteractive('sh', ['-c', 'exit 7'], { cwd })).toBe(7);
    expect(await runInteractive('sh', ['-c', 'kill -9 $$'], { cwd })).toBe(137);
    await expect(runInteractive(MISSING, [], { cwd })).rejects.toMatchObject({
      code: 'HOST_UNSUPPORTED',
    });
  });
});

describe('a detached program', () => {
  const log = () => join(directory.path, 'log');
  const detach = (command: string) => startDetached('sh', ['-c', command], { cwd: directory.path, logFile: log() });

  test('outlives the vmctl that started it, which ends by itself meanwhile', async () => {
    const actor = await script.start();
    const command =
      'echo $$ > pid; echo begun; while [ ! -e go ]; do sleep 0.02; done; echo went on >&2; exec sleep 60';
    const pid = await actor.ask('launch', command, directory.path, log());
    const identity = await processIn('pid');
    expect(identity.pid).toBe(pid);
    await actor.ask('leave');
    expect(await actor.ended).toBe(0);
    await writeFile(join(directory.path, 'go'), '');
    await expect.poll(() => readFile(log(), 'utf8')).toBe('begun\nwent on\n');
    expect(await identifyProcess(identity.pid)).toEqual(identity);
  });

  test('speaks the language in which its words are looked for', async () => {
    const { ended } = await detach('echo "$LC_ALL"');
    await ended;
    expect(await readFile(log(), 'utf8')).toBe('C\n');
  });

  test('outlives a vmctl that is killed', async () => {
    const actor = await script.start();
    await actor.ask('launch', 'echo $$ > pid; exec sleep 60', directory.path, log());
    const identity = await processIn('pid');
    await actor.kill();
    expect(await identifyProcess(identity.pid)).toEqual(identity);
  });

  test('leads a session of its own, so that no Ctrl-C reaches it, and reads nothing', async () => {
    await detach('cat; echo $$ > pid; exec sleep 60');
    const { pid } = await processIn('pid');
    const stat = await readFile(`/proc/${pid}/stat`, 'utf8');
    const [, , group, session] = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    expect([Number(group), Number(session)]).toEqual([pid, pid]);
  });

  test('says how it ended', async () => {
    expect(await (await detach('exit 3')).ended).toBe('exited with code 3');
    expect(await (await detach('kill -9 $$')).ended).toBe('was ended by SIGKILL');
  });

  test('writes its words to a log of its own, which begins empty', async () => {
    await writeFile(log(), 'old words');
    await (await detach('echo new')).ended;
    expect(await readFile(log(), 'utf8')).toBe('new\n');
  });

  test('that is not there is named', async () => {
    const attempt = startDetached(MISSING, [], { cwd: directory.path, logFile: log() });
    await expect(attempt).rejects.toMatchObject({
      code: 'HOST_UNSUPPORTED',
      message: expect.stringMatching(`^${MISSING} could not be started: .*ENOENT`),
      hint: `Install ${MISSING} and try again.`,
    });
  });

  test('is not started where there can be no log', async () => {
    await mkdir(log());
    await expect(detach('touch here')).rejects.toMatchObject({ code: 'STATE_DIRECTORY' });
    expect(await readdir(directory.path)).toEqual(['log']);
  });
});

test('the last lines of a file are given without line ends, and nothing for no file', async () => {
  const path = join(directory.path, 'log');
  await writeFile(path, 'one\r\ntwo\nthree\n\n');
  expect(await tailOfFile(path, 2)).toBe('two\nthree');
  expect(await tailOfFile(path, 20)).toBe('one\ntwo\nthree');
  expect(await tailOfFile(join(directory.path, 'none'), 2)).toBe('');
});
