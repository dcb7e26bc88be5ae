import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { waitFor } from '../../src/util/wait.js';
import { guestImage } from '../support/guests.js';
import { MachineRoom, PROGRAM, finish } from '../support/machine-room.js';
import { Terminal, sleepInGuest } from '../support/terminal.js';

/** A machine with a root shell on its serial console, and `vmctl` as a command that tells its pid in a file. */
async function openRoom(): Promise<MachineRoom> {
  const room = await MachineRoom.open();
  await room.write('VMFile.kdl', `vm "web" { image ${JSON.stringify(await guestImage('pocket'))}; memory 256 }`);
  await room.write('vmctl', `#!/bin/sh\necho $$ > vmctl.pid\nexec "${process.execPath}" "${PROGRAM}" "$@"\n`, 0o755);
  const up = await room.vmctl('up', '--no-provision');
  if (up.exitCode !== 0) throw new Error(up.stderr);
  return room;
}

/** A shell that leaves terminal modes alone, unlike bash, which would repair them. */
function openShell(room: MachineRoom): Promise<Terminal> {
  return Terminal.shell({ cwd: room.project, variables: room.variables });
}

/** Runs a command line, and says afterwards how it ended and whether the terminal is as it was. */
async function typeBetweenLooks(terminal: Terminal, line: string): Promise<void> {
  await terminal.clear();
  await terminal.type(
    `stty -g > before; ${line}; echo "left with $?"; stty -g > after; cmp before after && echo the same`,
  );
}

/** How it ended, and whether the terminal is as it was. */
async function afterwards(terminal: Terminal) {
  const screen = await terminal.waitFor(/^left with \d+\n[^]*^(the same|.* differ.*)$/m);
  const exitCode = Number(/^left with (\d+)$/m.exec(screen)?.[1]);
  return { exitCode, modes: /^the same$/m.test(screen) ? 'as before' : 'changed', ...(await terminal.state()), screen };
}

const RESTORED = { modes: 'as before', cursorVisible: true, otherScreen: false } as const;

let tokens = 0;

/** Waits for the guest's prompt, and until the guest has answered: then the terminal is lent. */
async function talk(terminal: Terminal): Promise<void> {
  await terminal.waitFor(':~#');
  tokens += 1;
  await terminal.type(`echo token-$((${tokens}*1))-here`);
  await terminal.waitFor(new RegExp(`^token-${tokens}-here$`, 'm'));
}

function readConsoleLog(room: MachineRoom): Promise<string> {
  return readFile(join(room.paths.vm('web'), 'console.log'), 'utf8');
}

async function signalVmctl(room: MachineRoom, signal: NodeJS.Signals): Promise<void> {
  process.kill(Number(await readFile(join(room.project, 'vmctl.pid'), 'utf8')), signal);
}

describe('a console', () => {
  let room: MachineRoom;
  beforeAll(async () => {
    room = await openRoom();
  });
  afterAll(() => room[Symbol.asyncDispose]());

  test('shows the guest, passes on every key but Ctrl-], survives a resize, and leaves the terminal as it was', async () => {
    await using terminal = await openShell(room);
    await typeBetweenLooks(terminal, './vmctl console web');
    expect(await terminal.waitFor('detaches')).toContain(
      'Attached to the serial console of VM "web". Ctrl-] detaches.',
    );
    await talk(terminal);
    await sleepInGuest(terminal);
    await terminal.press('C-c');
    await talk(terminal);
    await terminal.resize(70, 20);
    await terminal.type('stty -onlcr; printf "up\\ndown\\n"; stty onlcr');
    // A line feed alone goes down and not back, as a program that draws expects of it.
    expect(await terminal.waitFor('  down')).toMatch(/^up\n {2}down$/m);
    const second = await room.vmctl('console', 'web');
    expect(second).toMatchObject({ exitCode: 1, stdout: '' });
    expect(second.stderr).toMatch(/VM "web" is in use by "vmctl console" \(pid \d+\)\nhint: Detach there with Ctrl-\]/);
    await terminal.press('C-]');
    expect(await afterwards(terminal)).toMatchObject({
      ...RESTORED,
      exitCode: 0,
      screen: expect.stringContaining('Detached from VM "web". It runs on.'),
    });
    expect(await room.states()).toEqual({ web: 'running' });
  });

  test.each([
    ['SIGTERM', 143],
    ['SIGHUP', 129],
    ['SIGINT', 130],
    ['SIGQUIT', 131],
  ] as const)('is left with the terminal as it was on %s', async (signal, exitCode) => {
    await using terminal = await openShell(room);
    await typeBetweenLooks(terminal, './vmctl console web');
    await talk(terminal);
    // As an editor would have it.
    await terminal.type(String.raw`printf '\033[?1049h\033[?25lother-%s' screen`);
    await terminal.waitFor('other-screen');
    await signalVmctl(room, signal);
    expect(await afterwards(terminal)).toMatchObject({ ...RESTORED, exitCode });
  });

  test('lends the terminal back while it is stopped, and has it again when it goes on', async () => {
    await using terminal = await openShell(room);
    await typeBetweenLooks(terminal, './vmctl console web');
    await talk(terminal);
    await signalVmctl(room, 'SIGTSTP');
    // 128 + SIGSTOP; the guest's prompt stands before it.
    await terminal.waitFor(/left with 147\nthe same$/m);
    await terminal.clear();
    await terminal.type('fg');
    await terminal.waitFor(/^\.\/vmctl console web$/m);
    await terminal.type('echo on-$((1+1))-again');
    await terminal.waitFor(/^on-2-again$/m);
    await terminal.press('C-]');
    expect(await terminal.waitFor('runs on')).toContain('Detached');
  });

  test('is left with the terminal as it was when vmctl has a bug', async () => {
    await using terminal = await openShell(room);
    const bug = await room.write('bug.cjs', "process.on('SIGWINCH', () => { throw new Error('a bug'); });");
    await typeBetweenLooks(terminal, `NODE_OPTIONS=--require=${bug} ./vmctl console web`);
    await talk(terminal);
    await terminal.resize(90, 25);
    expect(await afterwards(terminal)).toMatchObject({ ...RESTORED, exitCode: 1 });
  });

  test('ends when nobody reads its output any more', async () => {
    await using terminal = await openShell(room);
    await typeBetweenLooks(terminal, './vmctl console web | head -c 1 | cat > first');
    await terminal.waitFor('detaches');
    await terminal.press('Enter');
    await waitFor(async () => ((await readFile(join(room.project, 'first'), 'utf8')) === '' ? null : true), {
      timeoutMs: 20_000,
    });
    await terminal.press('Enter');
    expect(await afterwards(terminal)).toMatchObject({ ...RESTORED, exitCode: 0 });
  });

  test('is free again when the terminal has gone away', async () => {
    await using terminal = await openShell(room);
    await terminal.type('./vmctl console web');
    await talk(terminal);
    const pid = Number(await readFile(join(room.project, 'vmctl.pid'), 'utf8'));
    await terminal[Symbol.asyncDispose]();
    const gone = await waitFor(async () => (isThere(pid) ? null : true), { timeoutMs: 20_000 });
    expect(gone).toBe(true);
    expect(await room.vmctl('console', 'web')).toMatchObject({ exitCode: 0, stderr: '' });
  });

  test('answers what is piped into it', async () => {
    await using terminal = await openShell(room);
    await terminal.type('./vmctl console web');
    await talk(terminal);
    await terminal.press('C-]');
    await terminal.waitFor('runs on');
    await typeBetweenLooks(terminal, "echo 'echo the answer is $((6*7))' | ./vmctl console web > answer 2> words");
    expect(await afterwards(terminal)).toMatchObject({ ...RESTORED, exitCode: 0 });
    expect(await readFile(join(room.project, 'answer'), 'utf8')).toContain('\r\nthe answer is 42\r\n');
    expect(await readFile(join(room.project, 'words'), 'utf8')).toBe('');
  });
});

function isThere(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

test('a console ends with its machine: powered off, or killed; the log is followed on until it is destroyed', async () => {
  await using room = await openRoom();
  const follower = finish(room.start(['log', 'web', '--follow']));
  await using terminal = await openShell(room);
  const stopped = expect.stringContaining('VM "web" has stopped.');
  await typeBetweenLooks(terminal, './vmctl console web');
  await talk(terminal);
  await terminal.type('poweroff');
  expect(await afterwards(terminal)).toMatchObject({ ...RESTORED, exitCode: 0, screen: stopped });

  expect((await room.vmctl('start', 'web')).exitCode).toBe(0);
  await typeBetweenLooks(terminal, './vmctl console web');
  await terminal.waitFor('Attached');
  // Not on the screen, which it leaves too soon to be seen for sure.
  const bootedTwice = async () => ((await readConsoleLog(room)).match(/Linux version/g)?.length === 2 ? true : null);
  expect(await waitFor(bootedTwice, { timeoutMs: 60_000 })).toBe(true);
  await room.signal('web', 'SIGKILL');
  expect(await afterwards(terminal)).toMatchObject({ ...RESTORED, exitCode: 0, screen: stopped });

  const logged = await readConsoleLog(room);
  expect(logged.match(/Linux version/g)).toHaveLength(2);
  await room.vmctl('destroy', 'web');
  const followed = await follower;
  expect(followed.stderr.trimEnd().split('\n').at(-1)).toBe('note: VM "web" was destroyed');
  expect(followed.exitCode).toBe(0);
  expect(followed.stdout === logged).toBe(true);
});
