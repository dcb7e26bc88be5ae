/** SSH servers to run the same tests against: the fake of test/support, and the two real ones that guests have. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { access, chmod, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join } from 'node:path';
import type { Endpoint, KeyPair } from '../../src/model/vm.js';
import { readBanner } from '../../src/ssh/banner.js';
import { type SshTarget, connectSsh } from '../../src/ssh/client.js';
import { generateKeyPair } from '../../src/ssh/keys.js';
import { runCommand } from '../../src/util/exec.js';
import { waitFor } from '../../src/util/wait.js';
import { SshServer } from '../support/ssh-server.js';

export interface Guest extends AsyncDisposable {
  readonly target: SshTarget;
  /** This host's path of the folder in which the guest's commands start. */
  readonly home: string;
  /** Takes its power away. */
  kill(): Promise<void>;
}

export interface Keys {
  readonly host: KeyPair;
  readonly user: KeyPair;
}

export function newKeys(): Keys {
  return { host: generateKeyPair('host'), user: generateKeyPair('user') };
}

export const GUESTS: readonly { readonly name: string; readonly start: (keys?: Keys) => Promise<Guest> }[] = [
  { name: 'the fake', start: startFake },
  { name: 'OpenSSH', start: startOpenSsh },
  { name: 'dropbear', start: startDropbear },
];

/** Never aborted. */
export const calm = new AbortController().signal;

export function targetOf(endpoint: Endpoint, user: string, keys: Keys): SshTarget {
  return {
    endpoint,
    user,
    privateKeys: [{ source: '~/.ssh/test', key: keys.user.privateKey }],
    hostKey: { kind: 'pinned', publicKey: keys.host.publicKey },
  };
}

export function connectTo(guest: { readonly target: SshTarget }): ReturnType<typeof connectSsh> {
  return connectSsh(guest.target, { signal: calm });
}

/** Waits from now on, so that no failure goes unnoticed meanwhile; null when there is none. */
export function failureOf(promise: Promise<unknown>): Promise<unknown> {
  return promise.then(
    () => null,
    (error: unknown) => error,
  );
}

async function startFake(keys: Keys = newKeys()): Promise<Guest> {
  const server = await SshServer.start({ hostKey: keys.host.privateKey, authorizedKeys: [keys.user.publicKey] });
  return {
    target: targetOf(server.endpoint, 'vm', keys),
    home: server.root,
    kill: async () => server.drop(),
    [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
  };
}

async function startOpenSsh(keys: Keys = newKeys()): Promise<Guest> {
  await needs('/usr/sbin/sshd', 'openssh-server');
  await needs('/usr/lib/openssh/sftp-server', 'openssh-sftp-server');
  return startReal(keys, async ({ directory, port }) => {
    await writeFile(join(directory, 'host_key'), keys.host.privateKey, { mode: 0o600 });
    const settings = [
      `HostKey ${directory}/host_key`,
      'PasswordAuthentication no',
      'AcceptEnv NOTHING',
      'PidFile none',
      'Subsystem sftp /usr/lib/openssh/sftp-server',
    ];
    await writeFile(join(directory, 'sshd_config'), `${settings.join('\n')}\n`);
    return `/usr/sbin/sshd -D -e -f ${directory}/sshd_config -o ListenAddress=127.0.0.1 -p ${port}`;
  });
}

async function startDropbear(keys: Keys = newKeys()): Promise<Guest> {
  await needs('/usr/sbin/dropbear', 'dropbear-bin');
  await needs('/usr/lib/sftp-server', 'openssh-sftp-server');
  return startReal(keys, async ({ directory, port }) => {
    const text = join(directory, 'host_key');
    await writeFile(text, keys.host.privateKey, { mode: 0o600 });
    await runCommand('dropbearconvert', ['openssh', 'dropbear', text, `${text}.dropbear`]);
    return `/usr/sbin/dropbear -F -E -r ${directory}/host_key.dropbear -p 127.0.0.1:${port} -P /run/dropbear.pid`;
  });
}

/**
 * Runs a server as root with namespaces of its own: a user `vm` with a home directory, /tmp and /run that nothing else
 * sees, and processes that all end with the server.
 */
async function startReal(
  keys: Keys,
  configure: (facts: { readonly directory: string; readonly port: number }) => Promise<string>,
): Promise<Guest> {
  if (process.getuid?.() !== 0) throw new Error('run this test as root: the SSH server needs it');
  const directory = await mkdtemp('/var/tmp/vmctl-sshd-');
  const home = join(directory, 'home');
  await mkdir(join(home, '.ssh'), { recursive: true, mode: 0o700 });
  await mkdir(join(directory, 'tmp'));
  await chmod(join(directory, 'tmp'), 0o1777);
  await writeFile(join(home, '.ssh', 'authorized_keys'), `${keys.user.publicKey}\n`, { mode: 0o600 });
  const port = await freePort();
  const command = await configure({ directory, port });
  await writeFile(
    join(directory, 'passwd'),
    `${await readFile('/etc/passwd', 'utf8')}vm:x:4242:4242::/home/vm:/bin/sh\n`,
  );
  await runCommand('chown', ['-R', '4242:4242', home]);
  await chmod(directory, 0o755);
  const script = [
    `mount --bind '${directory}/passwd' /etc/passwd`,
    'mount -t tmpfs -o mode=755 none /home',
    'mkdir /home/vm',
    `mount --bind '${home}' /home/vm`,
    'mount -t tmpfs -o mode=755 none /run',
    'mkdir /run/sshd',
    `mount --bind '${directory}/tmp' /tmp`,
    `exec ${command}`,
  ].join(' && ');
  const child = spawn('/usr/bin/unshare', ['--mount', '--pid', '--fork', '--kill-child=KILL', 'sh', '-c', script], {
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  let words = '';
  child.stderr.on('data', (chunk: Buffer) => {
    words += chunk.toString('utf8');
  });
  const endpoint = { host: '127.0.0.1', port };
  const up = await waitFor(
    async () => (child.exitCode === null ? readBanner(endpoint, { timeoutMs: 2_000, signal: calm }) : 'ended'),
    { timeoutMs: 20_000 },
  );
  if (up === null || up === 'ended') throw new Error(`the SSH server did not start: ${words}`);
  return {
    target: targetOf(endpoint, 'vm', keys),
    home,
    kill: () => end(child),
    [Symbol.asyncDispose]: async () => {
      await end(child);
      await rm(directory, { recursive: true, force: true });
    },
  };
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  child.kill('SIGKILL');
  await once(child, 'exit');
}

async function needs(path: string, debianPackage: string): Promise<void> {
  try {
    await access(path);
  } catch {
    throw new Error(`${path} is missing: apt-get install -y ${debianPackage}`);
  }
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  server.close();
  await once(server, 'close');
  if (address === null || typeof address === 'string') throw new Error('not a TCP port');
  return address.port;
}
