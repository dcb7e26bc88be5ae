import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { chmod, lstat, mkdir, readFile, readdir, readlink, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { VM_FILES } from '../../src/paths.js';
import { generateKeyPair, knownHostsLine } from '../../src/ssh/keys.js';
import { waitFor } from '../../src/util/wait.js';
import { sha256 } from '../support/digest.js';
import { guestImage } from '../support/guests.js';
import { MachineRoom, finish } from '../support/machine-room.js';

const PROGRAM = fileURLToPath(new URL('../../dist/cli.js', import.meta.url));
const ODD_NAMES = [' ', '-rf', `it's "quoted" $(id) *.txt`, 'two\nlines', 'grüße 🚀', '.hidden', 'a:b', 'back\\slash'];

let room: MachineRoom;

beforeAll(async () => {
  room = await MachineRoom.open({ folder: 'a folder, 100% odd' });
  const image = await guestImage('pocket');
  await room.write(
    'VMFile.kdl',
    `vm "web" { image ${JSON.stringify(image)}; memory 256; disk "2GiB"; cloud-init; ssh }
    vm "off" { image ${JSON.stringify(image)}; memory 64; cloud-init; ssh }`,
  );
  const up = await room.vmctl('up', 'web');
  if (up.exitCode !== 0) throw new Error(up.stderr);
}, 180_000);

afterAll(() => room?.[Symbol.asyncDispose]());

/** Everything below a folder, one line each. */
async function contentsOf(root: string, path = '.'): Promise<readonly string[]> {
  const found = await lstat(join(root, path));
  const name = JSON.stringify(path);
  if (found.isSymbolicLink()) return [`${name} -> ${await readlink(join(root, path))}`];
  const mode = (found.mode & 0o777).toString(8);
  if (found.isFile()) return [`${name} ${mode} ${await readFile(join(root, path), 'utf8')}`];
  const inner = (await readdir(join(root, path))).toSorted((a, b) => (a < b ? -1 : 1));
  const lines = await Promise.all(inner.map((entry) => contentsOf(root, `${path}/${entry}`)));
  return [`${name} ${mode}`, ...lines.flat()];
}

/** Runs a program to its end, whatever its exit code is. */
function run(
  program: string,
  words: readonly string[],
  variables: Readonly<Record<string, string>> = {},
): Promise<{ readonly exitCode: number; readonly stdout: string; readonly stderr: string }> {
  return new Promise((resolve) => {
    const options = { cwd: room.project, env: { ...process.env, ...variables }, encoding: 'utf8' as const };
    execFile(program, [...words], options, (error, stdout, stderr) => {
      resolve({ exitCode: error === null ? 0 : Number(error.code ?? -1), stdout, stderr });
    });
  });
}

test('a folder with odd names, modes and links goes into the VM and comes back the same', async () => {
  const tree = join(room.project, 'tree');
  await mkdir(join(tree, 'empty folder'), { recursive: true });
  await mkdir(join(tree, 'deep/er'), { recursive: true });
  for (const name of ODD_NAMES) await writeFile(join(tree, 'deep/er', name), `in ${name}`);
  await writeFile(join(tree, 'empty'), '');
  await writeFile(join(tree, 'run.sh'), '#!/bin/sh\n', { mode: 0o755 });
  await writeFile(join(tree, 'secret'), 'x', { mode: 0o600 });
  await symlink('../nowhere', join(tree, 'dangling'));
  await chmod(join(tree, 'empty folder'), 0o500);

  const sent = await room.vmctl('cp', 'tree', 'web:');
  expect(sent).toMatchObject({ exitCode: 0, stdout: '' });
  expect(sent.stderr).toMatch(/copied 11 files and 1 link in 4 folders, [\d.]+ B, to web:tree\n$/);
  const seen = await room.vmctl('exec', 'web', '--', 'stat -c "%a %N" tree/run.sh tree/secret tree/dangling');
  expect(seen.stdout).toMatch(/^755 .*run\.sh.*\n600 .*secret.*\n777 .*dangling.*\.\.\/nowhere.*\n$/);

  expect((await room.vmctl('cp', 'web:/home/vm/tree/.', 'back')).exitCode).toBe(0);
  expect(await contentsOf(join(room.project, 'back'))).toEqual(await contentsOf(tree));
  for (const name of ODD_NAMES) {
    expect((await room.vmctl('cp', '--', `./tree/deep/er/${name}`, 'web:one')).exitCode).toBe(0);
    expect((await room.vmctl('exec', 'web', '--', 'cat', 'one')).stdout).toBe(`in ${name}`);
  }
  const refused = await room.vmctl('cp', 'tree', 'web:one');
  expect(refused.exitCode).toBe(1);
  expect(refused.stderr).toContain('cannot copy tree to web:one: tree is a folder, and one is a file');
});

test('64 MiB arrive unchanged both ways; a copy that is interrupted leaves nothing here, and says what is left in the VM', async () => {
  await writeFile(join(room.project, 'large'), randomBytes(64 * 1024 * 1024));
  const digest = await sha256(join(room.project, 'large'));
  expect((await room.vmctl('cp', 'large', 'web:/home/vm/')).exitCode).toBe(0);
  expect((await room.vmctl('exec', 'web', '--', 'sha256sum < large')).stdout.split(' ')[0]).toBe(digest);
  await mkdir(join(room.project, 'came'));
  expect((await room.vmctl('cp', 'web:large', 'came')).exitCode).toBe(0);
  expect(await sha256(join(room.project, 'came/large'))).toBe(digest);

  await mkdir(join(room.project, 'half'));
  const child = room.start(['cp', 'web:large', 'half/']);
  const ended = finish(child);
  const partial = async () =>
    (await readdir(join(room.project, 'half'))).find((name) => name.endsWith('.part')) ?? null;
  expect(await waitFor(partial, { timeoutMs: 30_000 })).toMatch(/^\.vmctl-/);
  child.kill('SIGINT');
  expect(await ended).toMatchObject({ exitCode: 130, stderr: expect.stringContaining('stopping the copy') });
  expect(await readdir(join(room.project, 'half'))).toEqual([]);

  const upload = room.start(['cp', 'large', 'web:half']);
  const stopped = finish(upload);
  await room.vmctl('exec', 'web', '--timeout', '30s', '--', 'until [ -s half ]; do sleep 0.05; done');
  upload.kill('SIGINT');
  expect(await stopped).toMatchObject({ exitCode: 130, stderr: expect.stringContaining('may be incomplete') });
});

test('a login that is refused is a failure of the transport, as with scp', async () => {
  const { exitCode, stderr } = await room.vmctl('cp', '--user', 'nobody', 'web:/etc/hostname', '.');
  expect(exitCode).toBe(255);
  expect(stderr).toContain('for user "nobody"');
});

test('ssh, scp and sftp reach the VM with what ssh-config prints, and only while it shows its own key', async () => {
  const printed = await room.vmctl('ssh-config', 'web', 'off');
  expect(printed.exitCode).toBe(1);
  expect(printed.stderr).toContain('there is no VM "off"');
  expect(await room.vmctl('ssh-config')).toMatchObject({ exitCode: 0, stdout: printed.stdout });
  const config = await room.write('vms.conf', printed.stdout);
  // Nothing of the person who runs the test takes part.
  const alone = { HOME: room.root, SSH_AUTH_SOCK: '' };
  expect(await run('ssh', ['-F', config, 'web', 'echo out; exit 3'], alone)).toEqual({
    exitCode: 3,
    stdout: 'out\n',
    stderr: '',
  });
  await room.write('note.txt', 'by scp');
  expect(await run('scp', ['-F', config, 'note.txt', 'web:note'], alone)).toMatchObject({ exitCode: 0 });
  await run('sftp', ['-F', config, 'web:note', 'back.txt'], alone);
  expect(await readFile(join(room.project, 'back.txt'), 'utf8')).toBe('by scp');
  const { hosts } = JSON.parse((await room.vmctl('ssh-config', '--json')).stdout);
  expect(hosts).toMatchObject([{ name: 'web', host: '127.0.0.1', user: 'vm', pinned: true }]);

  const knownHosts = join(room.paths.vm('web'), VM_FILES.knownHosts);
  expect(printed.stdout).toContain(`UserKnownHostsFile "${knownHosts.replaceAll('%', '%%')}"`);
  const pinned = await readFile(knownHosts, 'utf8');
  await writeFile(knownHosts, knownHostsLine('web', generateKeyPair('another').publicKey));
  try {
    const refused = await run('ssh', ['-F', config, 'web', 'true'], alone);
    expect(refused).toMatchObject({ exitCode: 255, stderr: expect.stringContaining('verification failed') });
    const viaCp = await room.vmctl('cp', 'web:note', 'never');
    expect(viaCp).toMatchObject({ exitCode: 255, stderr: expect.stringContaining('the pinned host key is') });
  } finally {
    await writeFile(knownHosts, pinned);
  }
  await expect(stat(join(room.project, 'never'))).rejects.toMatchObject({ code: 'ENOENT' });
});

test('a command of vmctl ssh has the terminal that vmctl has, and its exit code is vmctl’s', async () => {
  expect(await room.vmctl('ssh', 'web', '--', 'tty; exit 7')).toMatchObject({ exitCode: 7, stdout: 'not a tty\n' });
  const variables = { XDG_DATA_HOME: join(room.paths.root, '..') };
  const line = `"${process.execPath}" "${PROGRAM}" ssh web -- 'tty; exit 8'`;
  // script(1) gives the program a terminal, prints what appears on it and passes its exit code on.
  const { exitCode, stdout } = await run('script', ['-qefc', line, '/dev/null'], variables);
  expect(stdout).toContain('/dev/pts/');
  expect(exitCode).toBe(8);
});

test('a provision step copies a folder', async () => {
  await room.write('site/css/main.css', 'body {}', 0o640);
  await rm(join(room.project, 'VMFile.kdl'));
  const image = await guestImage('pocket');
  const step = 'provision "file" { source "site"; destination "/home/vm/www" }';
  await room.write(
    'VMFile.kdl',
    `vm "web" { image ${JSON.stringify(image)}; memory 256; disk "2GiB"; cloud-init; ssh; ${step} }`,
  );
  await room.vmctl('stop', 'web');
  expect(await room.vmctl('up')).toMatchObject({ exitCode: 0 });
  expect((await room.vmctl('exec', 'web', '--', 'cat www/css/main.css; stat -c %a www/css/main.css')).stdout).toBe(
    'body {}640\n',
  );
});
