import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify, stripVTControlCharacters } from 'node:util';
import { expect, test } from 'vitest';
import { serveFile } from '../support/file-server.js';
import { guestImage } from '../support/guests.js';
import { MachineRoom } from '../support/machine-room.js';

const PROGRAM = fileURLToPath(new URL('../../dist/cli.js', import.meta.url));

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
