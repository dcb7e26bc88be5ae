import { execFile } from 'node:child_process';
import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import { createServer } from 'node:http';
import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { promisify, stripVTControlCharacters } from 'node:util';
import { expect, test } from 'vitest';
import { guestImage } from '../support/guests.js';
import { MachineRoom } from '../support/machine-room.js';

const PROGRAM = fileURLToPath(new URL('../../dist/cli.js', import.meta.url));

/** Serves a file in ten parts over two seconds, so that there is something to watch. */
async function serveSlowly(path: string): Promise<{ url: string } & AsyncDisposable> {
  const { size } = await stat(path);
  const server = createServer((_request, response) => {
    response.writeHead(200, { 'content-length': size });
    void (async () => {
      for await (const part of createReadStream(path, { highWaterMark: Math.ceil(size / 10) })) {
        response.write(part);
        await pause(200);
      }
      response.end();
    })();
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('the server has no port');
  return {
    url: `http://127.0.0.1:${address.port}/guest.qcow2`,
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

test('on a terminal, up draws a live tree with the download’s bytes and rate and the current line of provisioning', async () => {
  await using server = await serveSlowly(await guestImage('pocket'));
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
