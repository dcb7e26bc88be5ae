/** Asking a guest over SSH to power off. Its commands are fakes, in a PATH without any other. */
import { chmod, mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { VM_FILES } from '../../src/paths.js';
import { generateKeyPair, knownHostsLine } from '../../src/ssh/keys.js';
import { powerOffBySsh } from '../../tasks/power-off.js';
import { quiet, temporaryDirectory, vmHandle } from '../support/fixtures.js';
import { SshServer } from '../support/ssh-server.js';

const USER = generateKeyPair('user');
const HOST = generateKeyPair('host');
const OTHER_HOST = generateKeyPair('other host');

/** A guest with these commands, each a script; `$0.log` is theirs to write to. */
async function openGuest(scripts: Readonly<Record<string, string>>, hostKey = HOST) {
  const folder = await temporaryDirectory();
  const commandsIn = join(folder.path, 'bin');
  await mkdir(commandsIn);
  for (const [name, script] of Object.entries(scripts)) {
    await writeFile(join(commandsIn, name), `#!/bin/sh\n${script}\n`);
    await chmod(join(commandsIn, name), 0o755);
  }
  const directory = join(folder.path, 'vm');
  await mkdir(directory);
  await writeFile(join(directory, VM_FILES.privateKey), USER.privateKey, { mode: 0o600 });
  await writeFile(join(directory, VM_FILES.knownHosts), knownHostsLine('web', hostKey.publicKey));
  const server = await SshServer.start({ hostKey: HOST.privateKey, authorizedKeys: [USER.publicKey], commandsIn });
  const handle = vmHandle({ name: 'web', directory });
  const log = (name: string) => readFile(join(commandsIn, `${name}.log`), 'utf8').catch(() => 'not run');
  return {
    server,
    ask: (signal = quiet.signal) => powerOffBySsh(join(folder.path, 'home'))(handle, server.endpoint, signal),
    log,
    [Symbol.asyncDispose]: async () => {
      await server[Symbol.asyncDispose]();
      await folder[Symbol.asyncDispose]();
    },
  };
}

const ID = (uid: number) => `echo ${uid}`;
const LOGS = 'echo "$*" >> "$0.log"';
/** As a program that becomes root and runs the rest. */
const BECOMES_ROOT = `${LOGS}; shift; "$@"`;

test('root powers off at once', async () => {
  await using guest = await openGuest({ id: ID(0), poweroff: LOGS, sudo: BECOMES_ROOT });
  await guest.ask();
  expect([await guest.log('poweroff'), await guest.log('sudo')]).toEqual(['\n', 'not run']);
});

test('another user does it by sudo, without being asked for a password', async () => {
  await using guest = await openGuest({ id: ID(1000), poweroff: LOGS, sudo: BECOMES_ROOT });
  await guest.ask();
  expect([await guest.log('sudo'), await guest.log('poweroff')]).toEqual(['-n poweroff\n', '\n']);
});

test('where there is no sudo, or it refuses, doas does it', async () => {
  await using guest = await openGuest({ id: ID(1000), poweroff: LOGS, sudo: 'exit 1', doas: BECOMES_ROOT });
  await guest.ask();
  expect([await guest.log('doas'), await guest.log('poweroff')]).toEqual(['-n poweroff\n', '\n']);
});

test('a user who may not is told what is missing', async () => {
  await using guest = await openGuest({ id: ID(1000), poweroff: LOGS, sudo: 'exit 1' });
  await expect(guest.ask()).rejects.toMatchObject({
    code: 'EXEC_FAILED',
    message: 'VM "web" did not power off (exit code 127)',
    hint: 'Its user vm needs sudo without a password for that.',
    fields: { vm: 'web', exitCode: 127 },
  });
  expect(await guest.log('poweroff')).toBe('not run');
});

test('a guest that takes the connection with it has been asked', async () => {
  await using guest = await openGuest({ id: ID(0), poweroff: `${LOGS}; exec /bin/sleep 600` });
  const asked = guest.ask();
  await expect.poll(() => guest.log('poweroff'), { timeout: 20_000 }).toBe('\n');
  guest.server.drop();
  await asked;
});

test('a guest that cannot be logged in to has not, and the wrong guest is not asked', async () => {
  await using refusing = await openGuest({ id: ID(0), poweroff: LOGS });
  refusing.server.refuseLogins = 1;
  await expect(refusing.ask()).rejects.toMatchObject({ code: 'SSH_AUTHENTICATION' });
  await using wrong = await openGuest({ id: ID(0), poweroff: LOGS }, OTHER_HOST);
  await expect(wrong.ask()).rejects.toMatchObject({ code: 'SSH_HOST_KEY' });
  expect([await refusing.log('poweroff'), await wrong.log('poweroff')]).toEqual(['not run', 'not run']);
});

test('somebody who is tired of asking leaves off', async () => {
  await using guest = await openGuest({ id: ID(0), poweroff: `${LOGS}; exec /bin/sleep 600` });
  const tired = new AbortController();
  const asked = guest.ask(tired.signal);
  await expect.poll(() => guest.log('poweroff'), { timeout: 20_000 }).toBe('\n');
  tired.abort();
  await expect(asked).rejects.toMatchObject({ code: 'ABORTED' });
});
