import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify, stripVTControlCharacters } from 'node:util';
import { expect, test } from 'vitest';
import { serveFile } from '../support/file-server.js';
import { guestImage } from '../support/guests.js';
import { MachineRoom, PROGRAM } from '../support/machine-room.js';
import { Terminal, sleepInGuest } from '../support/terminal.js';

test('on a terminal, up draws a live tree with the download’s bytes and rate and the current line of provisioning', async () => {
  await using server = await serveFile(await guestImage('pocket'), { overMs: 2000 });
  await using room = await MachineRoom.open();
  const step = 'provision "shell" { inline "echo the line of this moment; sleep 1" }';
  await room.write('VMFile.kdl', `vm "web" { image-url "${server.url}"; memory 256; cloud-init; ssh; ${step} }`);
  const { CI: _ci, ...environment } = process.env;
  // script(1) gives the program a terminal, and prints what appears on it; its size has to be set.
  const { stdout } = await promisify(execFile)(
    'script',
    ['-qefc', `stty cols 100 rows 40; "${process.execPath}" "${PROGRAM}" up`, '/dev/null'],
    {
      cwd: room.project,
      env: { ...environment, TERM: 'xterm-256color', XDG_DATA_HOME: `${room.paths.root}/..`, FORCE_COLOR: '' },
      encoding: 'utf8',
    },
  );
  expect(stdout).toContain('\u001b[?25l');
  expect(stdout.lastIndexOf('\u001b[?25h')).toBeGreaterThan(stdout.lastIndexOf('\u001b[?25l'));
  const text = stripVTControlCharacters(stdout);
  expect(text).toMatch(/› [\d.]+ MiB of [\d.]+ MiB \(\d+ %\), [\d.]+ MiB\/s/);
  expect(text).toContain('› the line of this moment');
  for (const name of ['parse', 'resolve', 'prepare', 'start', 'provision'])
    expect(text).toMatch(new RegExp(`✔ ${name}`));
  expect(text).toContain('1 up');
});

/** A room with VMs that have each one step, and a shell in it where `vmctl` is a command. */
async function openShell(room: MachineRoom, steps: Readonly<Record<string, string>>): Promise<Terminal> {
  const image = JSON.stringify(await guestImage('pocket'));
  const vms = Object.entries(steps).map(
    ([name, inline]) =>
      `vm "${name}" { image ${image}; memory 256; cloud-init; ssh; provision "shell" { inline "${inline}" } }`,
  );
  await room.write('VMFile.kdl', vms.join('\n'));
  await room.write('vmctl', `#!/bin/sh\nexec "${process.execPath}" "${PROGRAM}" "$@"\n`, 0o755);
  return Terminal.shell({ cwd: room.project, variables: room.variables });
}

/** A line that a window of forty columns has to cut, printed until the test says enough. */
const LONG = 'a line of provisioning that is far too long for a window of forty columns';
const UNTIL_ENOUGH = `until [ -e enough ]; do echo ${LONG}; sleep 0.2; done`;

test('the tree fits its window, also when that becomes narrower, and tells success from failure', async () => {
  await using room = await MachineRoom.open();
  await using terminal = await openShell(room, { web: UNTIL_ENOUGH, bad: 'echo about to fail; exit 3' });
  await terminal.clear();
  await terminal.type('./vmctl up; echo "left with $?"');
  await terminal.waitFor(/^❯ web\n {2}[^]*⠋/m);
  await terminal.waitFor(LONG);
  await terminal.waitFor(/✖ bad[^]*✖ provision/);
  await terminal.resize(40, 30);
  const steps = String.raw`\n( {2}✔ [^\n]{1,37}\n){4}`;
  // Drawn anew for forty columns, with nothing broken and nothing below it.
  await terminal.waitFor(
    new RegExp(
      `❯ web${steps} {2}\\S provision\\n {4}› a line of [^\\n]*…\\n✖ bad${steps} {2}✖ provision\\n {4}› [^\\n]*…$`,
    ),
  );
  expect((await room.vmctl('exec', 'web', '--', 'touch enough')).exitCode).toBe(0);
  const end = await terminal.waitFor(/^left with 1$/m);
  expect(end).toMatch(
    new RegExp(`✔ web( \\[(\\d+m)?\\d+s\\])?${steps} {2}✔ provision[^\\n]*\\n✖ bad${steps} {2}✖ provision\\n`),
  );
  expect(end).toContain('1 up, 1 failed');
  expect(await terminal.state()).toEqual({ cursorVisible: true, otherScreen: false });
});

test('Ctrl-C on the tree says at once what it does, and leaves nothing running; a second one leaves at once', async () => {
  await using room = await MachineRoom.open();
  await using terminal = await openShell(room, { web: UNTIL_ENOUGH });
  await terminal.clear();
  await terminal.type('./vmctl up; echo "left with $?"');
  await terminal.waitFor('waiting for SSH');
  await terminal.press('C-c');
  // Above the tree, and so while it was still there.
  await terminal.waitFor(/Interrupted: stopping what was begun \(again to leave at once\)\n[^]*✔ parse/);
  expect(await terminal.waitFor(/^left with \d+$/m)).toMatch(/^error: interrupted\nhint: .*\nleft with 130$/m);
  expect(await room.machines()).toEqual({});

  await terminal.clear();
  await terminal.type('./vmctl up; echo "left with $?"');
  await terminal.waitFor(LONG);
  // A QEMU that does not answer is waited for, so stopping is not over before the second key comes.
  await room.signal('web', 'SIGSTOP');
  await terminal.press('C-c');
  await terminal.waitFor('Interrupted');
  await terminal.press('C-c');
  expect(await terminal.waitFor(/^left with 130$/m)).toMatch(/^Left at once; what may still run: vmctl list$/m);
  expect(await terminal.state()).toEqual({ cursorVisible: true, otherScreen: false });
  await room.signal('web', 'SIGCONT');
  expect((await room.vmctl('down', '--destroy')).exitCode).toBe(0);
  expect(await room.leftovers()).toEqual([]);
});

test('ssh gives a login shell this terminal, its size and its keys, and passes on the exit code', async () => {
  await using room = await MachineRoom.open();
  await using terminal = await openShell(room, { web: 'true' });
  expect((await room.vmctl('up')).exitCode).toBe(0);
  await terminal.clear();
  await terminal.type('stty -g > before; ./vmctl ssh web; echo "left with $?"; stty -g > after');
  await terminal.waitFor(/^vm@web:~\$/m);
  await terminal.type('test -t 0 && echo it is a $(echo terminal); stty size');
  await terminal.waitFor(/^it is a terminal\n30 100$/m);
  await terminal.resize(70, 20);
  // Each line at the guest's prompt, as a person types: once, a line typed ahead of it was never run.
  await terminal.waitFor(/^vm@web:~\$$/m);
  await sleepInGuest(terminal);
  await terminal.press('C-c');
  // No "^C" is asked for: the guest's kernel echoes the key after the signal, when bash may have the terminal again.
  await terminal.waitFor(/^asleep-2\n(\^C)?\n+vm@web:~\$$/m);
  await terminal.type('stty size');
  await terminal.waitFor(/^20 70\nvm@web:~\$$/m);
  await terminal.type('exit 7');
  await terminal.waitFor(/^left with 7$/m);
  await terminal.clear();
  await terminal.type('cmp before after && ./vmctl ssh web -- "cat; exit 5"; echo "left with $?"');
  await terminal.type('typed here');
  await terminal.waitFor(/^typed here\ntyped here$/m);
  await terminal.press('C-d');
  expect(await terminal.waitFor(/^left with \d+$/m)).toContain('left with 5');
});

test('colours and the tree are for a terminal that wants them; a pipe gets plain lines, and stdout only data', async () => {
  await using room = await MachineRoom.open({ variables: { VMCTL_BACKEND: 'noop' } });
  await using terminal = await openShell(room, {});
  await room.write('VMFile.kdl', `vm "web" { image ${JSON.stringify(await guestImage('pocket'))} }`);
  const coloured = new RegExp(String.raw`\u001b\[3\d`);
  const up = async (line: string) => {
    await terminal.clear();
    await terminal.type(`./vmctl down --destroy 2> words; ${line}; echo "left with $?"`);
    await terminal.waitFor(/^left with 0$/m);
    return terminal.screen({ colours: true });
  };
  expect(await up('./vmctl up')).toMatch(coloured);
  const plain = await up('NO_COLOR=1 ./vmctl up');
  expect(plain).toMatch(/✔ web\n {2}✔ parse/);
  expect(plain).not.toMatch(coloured);
  for (const variable of ['CI=1', 'TERM=dumb']) {
    const lines = await up(`${variable} ./vmctl up`);
    expect(lines).toContain('parse: 1 vCPU');
    expect(lines).not.toContain('✔');
    expect(coloured.test(lines)).toBe(variable === 'CI=1');
  }
  await up('./vmctl up > out 2> err');
  const [out, err] = await Promise.all(['out', 'err'].map((name) => readFile(join(room.project, name), 'utf8')));
  expect(out).toBe('');
  expect(err).toMatch(/^web │ parse: 1 vCPU/);
  expect(err).not.toContain('\u001b');
});
