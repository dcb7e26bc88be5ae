import { chmod, mkdir, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import type { StageContext } from '../../src/model/event.js';
import type { LanIdentity } from '../../src/model/lan.js';
import { type CardSource, type LanMembership, joinLan, lanScript } from '../../src/provision/lan.js';
import { connectSsh } from '../../src/ssh/client.js';
import { shellQuote } from '../../src/ssh/shell-quote.js';
import { runCommand } from '../../src/util/exec.js';
import { calm, newKeys, targetOf } from '../ssh/guests.js';
import { listening, temporaryDirectory } from '../support/fixtures.js';
import { SshServer } from '../support/ssh-server.js';

const identity: LanIdentity = {
  mac: '02:4c:0a:4d:00:0b',
  address: '10.77.0.11',
  prefixLength: 24,
  hosts: ['10.77.0.11 a', '10.77.0.12 b b-host'],
};
const LINES = '10.77.0.11 a # vmctl lan\n10.77.0.12 b b-host # vmctl lan\n';

/** A guest's `/etc`, and an `ip` that says what it is told to. */
async function guest(hosts: string | null, addresses = 'inet 10.77.0.11/24 scope global') {
  const directory = await temporaryDirectory();
  const etc = join(directory.path, 'etc');
  await mkdir(etc);
  if (hosts !== null) await writeFile(join(etc, 'hosts'), hosts, { mode: 0o640 });
  const ip = join(directory.path, 'ip');
  await writeFile(ip, `#!/bin/sh\necho '2: eth1    ${addresses}'\n`);
  await chmod(ip, 0o755);
  const run = async (changes: Partial<LanIdentity> = {}, card: CardSource = 'own'): Promise<string> => {
    const input = `PATH=${directory.path}:$PATH\n${lanScript({ ...identity, ...changes }, card, etc)}`;
    return (await runCommand('sh', ['-s'], { input })).stdout.trim();
  };
  const read = (name: string) => readFile(join(etc, name), 'utf8');
  return { etc, run, read, [Symbol.asyncDispose]: () => directory[Symbol.asyncDispose]() };
}

describe('the names in the hosts file', () => {
  test('come behind what is there, and the file stays what it was', async () => {
    await using a = await guest('127.0.0.1 localhost\n127.0.1.1 a');
    const before = await stat(join(a.etc, 'hosts'));
    expect(await a.run()).toBe('there');
    expect(await a.read('hosts')).toBe(`127.0.0.1 localhost\n127.0.1.1 a\n${LINES}`);
    const { mode, ino } = await stat(join(a.etc, 'hosts'));
    expect({ mode, ino }).toEqual({ mode: before.mode, ino: before.ino });
  });

  test('are replaced by the ones of the next time, and nothing else is, wherever it stands', async () => {
    await using a = await guest('127.0.0.1 localhost\n');
    await a.run({ hosts: ['10.77.0.11 a', '10.77.0.13 gone'] });
    await writeFile(join(a.etc, 'hosts'), `${await a.read('hosts')}192.0.2.1 mine # of vmctl's user\n`);
    await a.run();
    expect(await a.read('hosts')).toBe(`127.0.0.1 localhost\n192.0.2.1 mine # of vmctl's user\n${LINES}`);
  });

  test('are written once: a file that has them is not touched', async () => {
    await using a = await guest('127.0.0.1 localhost\n');
    await a.run();
    const before = await stat(join(a.etc, 'hosts'));
    await a.run();
    expect((await stat(join(a.etc, 'hosts'))).mtimeMs).toBe(before.mtimeMs);
  });

  test('make a file where there is none', async () => {
    await using a = await guest(null);
    await a.run();
    expect(await a.read('hosts')).toBe(LINES);
  });

  test('go into the template as well from which cloud-init makes the file at every boot', async () => {
    // As cloud-init's own templates say it of themselves.
    const told =
      "# Your system has configured 'manage_etc_hosts' as True.\n# a.) make changes to the master file in /etc/cloud/templates/hosts.debian.tmpl\n";
    await using a = await guest(`${told}127.0.0.1 localhost\n`);
    await mkdir(join(a.etc, 'cloud', 'templates'), { recursive: true });
    const template = `## template:jinja\n${told}127.0.1.1 {{fqdn}} {{hostname}}\n`;
    await writeFile(join(a.etc, 'cloud', 'templates', 'hosts.debian.tmpl'), template);
    await writeFile(join(a.etc, 'cloud', 'templates', 'hosts.suse.tmpl'), template);
    await a.run();
    expect(await a.read('cloud/templates/hosts.debian.tmpl')).toBe(`${template}${LINES}`);
    expect(await a.read('cloud/templates/hosts.suse.tmpl')).toBe(template);
  });
});

describe('the address', () => {
  test('is looked for as a whole', async () => {
    await using a = await guest('', 'inet 10.77.0.111/24 scope global');
    expect(await a.run()).toBe('missing');
  });

  test('is not set where the card is the user’s own to configure, and cannot be without a card', async () => {
    await using a = await guest('', 'inet 10.0.2.15/24 scope global');
    expect(await a.run({}, 'own')).toBe('missing');
    expect(await a.run({}, 'nobody')).toBe('missing');
  });
});

/** A guest that is logged in to, and in which the script ends like this. */
async function answering({
  exitCode,
  stdout = '',
  stderr = '',
}: {
  exitCode: number;
  stdout?: string;
  stderr?: string;
}) {
  const folder = await temporaryDirectory();
  const shell = join(folder.path, 'sh');
  const script = ['/bin/cat >/dev/null', `printf %s ${shellQuote(stdout)}`, `printf %s ${shellQuote(stderr)} >&2`];
  await writeFile(shell, ['#!/bin/sh', ...script, `exit ${exitCode}`, ''].join('\n'));
  await chmod(shell, 0o755);
  const keys = newKeys();
  const server = await SshServer.start({
    hostKey: keys.host.privateKey,
    authorizedKeys: [keys.user.publicKey],
    commandsIn: folder.path,
  });
  const connection = await connectSsh(targetOf(server.endpoint, 'vm', keys), { signal: calm });
  return {
    join: (membership: LanMembership, context: StageContext) => joinLan(connection, membership, context),
    async [Symbol.asyncDispose]() {
      await connection.close();
      await server[Symbol.asyncDispose]();
      await folder[Symbol.asyncDispose]();
    },
  };
}

describe('what becomes of it', () => {
  const membership = { name: 'a', lan: 'back', identity, card: 'seed' } as const;

  test('is nothing to speak of when all is as it should be', async () => {
    const context = listening();
    await using there = await answering({ exitCode: 0, stdout: 'there\n' });
    await there.join(membership, context);
    await using set = await answering({ exitCode: 0, stdout: 'set\n' });
    await set.join({ ...membership, card: 'nobody' }, context);
    expect(context.lines).toEqual([]);
  });

  test('is a note where the address is not what the others are told', async () => {
    const context = listening();
    await using missing = await answering({ exitCode: 0, stdout: 'missing\n' });
    await missing.join({ ...membership, card: 'own' }, context);
    await using set = await answering({ exitCode: 0, stdout: 'set\n' });
    await set.join(membership, context);
    await using unknown = await answering({ exitCode: 0, stdout: 'unknown\n' });
    await unknown.join(membership, context);
    expect(context.lines).toEqual([
      'LAN "back": the network-config does not make 10.77.0.11/24 on the card 02:4c:0a:4d:00:0b, which the other VMs are told',
      'LAN "back": cloud-init did not make 10.77.0.11/24 on the card 02:4c:0a:4d:00:0b; it is set until the next boot',
      'LAN "back": its address is not checked: the guest has no `ip`',
    ]);
  });

  test('is a failure where nothing can be written, or the address cannot be had', async () => {
    await using refused = await answering({ exitCode: 1, stderr: 'sudo: a password is required\n' });
    await expect(refused.join(membership, listening())).rejects.toMatchObject({
      code: 'PROVISION_FAILED',
      message: 'VM "a" could not be told the names of LAN "back": sudo: a password is required',
      hint: expect.stringContaining('sudo -n'),
    });
    await using missing = await answering({ exitCode: 0, stdout: 'missing\n' });
    await expect(missing.join(membership, listening())).rejects.toMatchObject({
      message: expect.stringContaining('10.77.0.11/24 on the card 02:4c:0a:4d:00:0b'),
    });
  });
});
