import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import type { SshConnection } from '../../src/ssh/client.js';
import { type CopyRequest, copyBetween } from '../../tasks/copy.js';
import { connectTo, newKeys, targetOf } from '../ssh/guests.js';
import { SshServer } from '../support/ssh-server.js';

let server: SshServer;
let connection: SshConnection;
let cwd: string;

beforeEach(async () => {
  const keys = newKeys();
  server = await SshServer.start({ hostKey: keys.host.privateKey, authorizedKeys: [keys.user.publicKey] });
  connection = await connectTo({ target: targetOf(server.endpoint, 'vm', keys) });
  cwd = await mkdtemp(join(tmpdir(), 'vmctl-copy-'));
  await mkdir(join(cwd, 'site/css'), { recursive: true });
  await writeFile(join(cwd, 'site/css/main.css'), 'body {}');
  await mkdir(join(server.root, 'www'));
});

afterEach(async () => {
  await connection.close();
  await server[Symbol.asyncDispose]();
  await rm(cwd, { recursive: true, force: true });
});

function copy(direction: CopyRequest['direction'], local: string, remote: string) {
  return copyBetween(connection, { direction, local, remote, name: 'web', cwd }, {});
}

it('goes into a folder of the guest, or becomes what is not there yet', async () => {
  expect(await copy('in', 'site', 'www')).toMatchObject({ destination: 'web:www/site', files: 1, folders: 2 });
  expect(await readFile(join(server.root, 'www/site/css/main.css'), 'utf8')).toBe('body {}');
  await copy('in', 'site', '~/new');
  expect(await readFile(join(server.root, 'new/css/main.css'), 'utf8')).toBe('body {}');
  await copy('in', 'site/.', 'www/');
  expect(await readFile(join(server.root, 'www/css/main.css'), 'utf8')).toBe('body {}');
  expect((await copy('in', 'site/css/main.css', '')).destination).toBe('web:main.css');
});

it('comes out of the guest by the same rules', async () => {
  await writeFile(join(server.root, 'www/index.html'), '<p>');
  expect(await copy('out', '.', '~/www/index.html')).toMatchObject({ destination: join(cwd, 'index.html') });
  await copy('out', 'backup', 'www');
  expect(await readFile(join(cwd, 'backup/index.html'), 'utf8')).toBe('<p>');
  await copy('out', 'backup', 'www/');
  expect(await readFile(join(cwd, 'backup/www/index.html'), 'utf8')).toBe('<p>');
});

it.each<[CopyRequest['direction'], string, string, string]>([
  ['in', 'absent', 'x', 'cannot copy absent: it does not exist'],
  ['out', 'x', 'absent', 'cannot copy web:absent: it does not exist'],
  ['in', '/dev/null', 'x', 'cannot copy /dev/null: it is neither a file nor a folder'],
  ['in', 'site', 'no/such/x', 'cannot copy site to web:no/such/x: there is no folder no/such'],
  ['out', 'no/such/x', 'www', 'cannot copy web:www to no/such/x: there is no folder no/such'],
  ['out', '/dev/null', 'www', 'cannot copy web:www to /dev/null: /dev/null is neither a file nor a folder'],
])('is refused with both places named: %s %s %s', async (direction, local, remote, message) => {
  await expect(copy(direction, local, remote)).rejects.toMatchObject({ code: 'TRANSFER_FAILED', message });
});
