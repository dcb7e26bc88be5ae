import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { type SshLogin, sshArguments, sshConfigBlock } from '../../tasks/ssh-login.js';
import { runCommand } from '../../src/util/exec.js';

const LOGIN: SshLogin = {
  name: 'web',
  directory: '/state/vms/web',
  endpoint: { host: '127.0.0.1', port: 40022 },
  user: 'admin',
  identities: ['/state/vms/web/id_ed25519_generated', '/home/me/.ssh/id_rsa'],
  knownHosts: '/state/vms/web/known_hosts',
  pinned: true,
};

it('a block has everything that reaches the VM and no other machine', () => {
  expect(sshConfigBlock(LOGIN)).toBe(`Host web
    HostName 127.0.0.1
    Port 40022
    User admin
    HostKeyAlias web
    UserKnownHostsFile /state/vms/web/known_hosts
    GlobalKnownHostsFile /dev/null
    StrictHostKeyChecking yes
    IdentitiesOnly yes
    IdentityFile /state/vms/web/id_ed25519_generated
    IdentityFile /home/me/.ssh/id_rsa
    LogLevel ERROR
`);
});

it.each([`/a b/it's/"quoted"/back\\slash`, '/100% sure/#1', '/grüße/$HOME/~', '/comma,equals=/[brackets]*?'])(
  'ssh reads a path back as it was: %s',
  async (directory) => {
    const folder = await mkdtemp(join(tmpdir(), 'vmctl-ssh-config-'));
    try {
      const file = join(folder, 'config');
      const knownHosts = `${directory}/known_hosts`;
      await writeFile(file, sshConfigBlock({ ...LOGIN, knownHosts, identities: [`${directory}/key`] }));
      const { stdout } = await runCommand('ssh', ['-G', '-F', file, 'web']);
      // It tells the values before the tokens in them are replaced.
      const told = stdout.replaceAll('%%', '%').split('\n');
      expect(told).toContain(`userknownhostsfile ${knownHosts}`);
      expect(told).toContain(`identityfile ${directory}/key`);
      expect(told).toEqual(expect.arrayContaining(['hostname 127.0.0.1', 'port 40022', 'user admin']));
    } finally {
      await rm(folder, { recursive: true });
    }
  },
);

it.each(['/a${HOME}/x', '/two\nlines'])('a path that no configuration can hold is refused: %j', (directory) => {
  expect(() => sshConfigBlock({ ...LOGIN, knownHosts: `${directory}/known_hosts` })).toThrow(
    expect.objectContaining({ code: 'UNSUPPORTED' }),
  );
});

it('an ssh that runs in the VM’s directory is given its files without a path, whatever that is', () => {
  const directory = '/a${HOME}/two\nlines';
  const words = sshArguments({
    ...LOGIN,
    directory,
    knownHosts: `${directory}/known_hosts`,
    identities: [`${directory}/key`, '/my "own" key, 100%'],
    pinned: false,
  });
  expect(words).toEqual(
    expect.arrayContaining([
      'UserKnownHostsFile=known_hosts',
      'IdentityFile=key',
      'IdentityFile="/my \\"own\\" key, 100%%"',
      'StrictHostKeyChecking=accept-new',
    ]),
  );
  expect(words.join(' ')).not.toContain(directory);
});
