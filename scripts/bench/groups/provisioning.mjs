// Provision steps against ssh and scp that share one connection: in a small guest, and with a server on this host, where
// no emulated processor hides what vmctl itself costs.
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, closeSync, mkdirSync, openSync, writeFileSync, writeSync } from 'node:fs';
import { randomBytes } from 'node:crypto';
import { connect, createServer } from 'node:net';
import { userInfo } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { build } from 'esbuild';
import { root } from '../../setup.mjs';
import { atMost, compare } from '../lib/measure.mjs';
import { pocketBlock, pocketProject } from '../lib/projects.mjs';

export const title = 'Provisioning';
export const about =
  'A hundred small shell steps, and one large file, against ssh and scp over one shared connection. “On this host” means a server of this host instead of a guest.';
export const programs = ['qemu-system-x86_64', 'qemu-img', 'ssh', 'sshd'];

const STEPS = 100;
const MOST_FOR_STEPS = 1.2;
const MOST_FOR_A_FILE = 1.3;
const FILE_MIB = 256;

export async function run(tools) {
  return [...(await onThisHost(tools)), ...(await inGuest(tools))];
}

/** vmctl's own SSH and provisioner, without the command line around them. */
async function onThisHost({ scratch, rounds }) {
  const folder = join(scratch, 'host');
  mkdirSync(folder, { mode: 0o700 });
  const server = await Server.start(folder);
  try {
    const { connectSsh, runSteps } = await sources(folder);
    const large = writeLarge(join(folder, 'large'), FILE_MIB);
    const target = join(folder, 'arrived');
    const provision = async (steps) => {
      const begun = performance.now();
      const connection = await connectSsh(server.target, { signal: new AbortController().signal });
      const nothing = () => {};
      await runSteps(connection, steps, {
        name: 'host',
        logFile: join(folder, 'provision.log'),
        history: [],
        remember: async () => {},
        reporter: { status: nothing, progress: nothing, log: nothing },
        signal: new AbortController().signal,
      });
      await connection.close();
      return performance.now() - begun;
    };
    const file = { kind: 'file', source: large, destination: target, run: 'always', timeoutSeconds: null };
    return [
      await compare(`${STEPS} shell steps, on this host`, () => provision(Array.from({ length: STEPS }, shellStep)), {
        reference: { name: 'ssh', run: () => sshLoop(server) },
        bar: atMost(MOST_FOR_STEPS),
        rounds: rounds(7),
      }),
      await compare(`a file of ${FILE_MIB} MiB, on this host`, () => provision([file]), {
        reference: { name: 'scp', run: () => scp(server, large, target) },
        bar: atMost(MOST_FOR_A_FILE),
        rounds: rounds(7),
        note: 'what the file takes on this host has in it the digest by which a later run knows whether it has changed',
      }),
    ];
  } finally {
    server.stop();
  }
}

async function inGuest({ scratch, rounds, guestImage }) {
  const image = guestImage();
  const project = pocketProject(join(scratch, 'steps'), image, {
    pocket: '  provision "shell" { inline "true" }\n'.repeat(STEPS),
  });
  try {
    await project.up();
    const large = writeLarge(join(project.folder, 'large'), FILE_MIB);
    const guest = {
      config: join(project.folder, 'ssh.conf'),
      host: 'pocket',
      control: join(project.folder, 'control'),
    };
    writeFileSync(guest.config, project.read('ssh-config'));
    const rows = [
      await compare(`${STEPS} shell steps, in a guest`, () => project.time('provision'), {
        reference: { name: 'ssh', run: () => sshLoop(guest) },
        bar: atMost(MOST_FOR_STEPS),
        rounds: rounds(3),
      }),
    ];
    writeFileSync(
      join(project.folder, 'VMFile.kdl'),
      pocketBlock('pocket', { image, lines: '  provision "file" { source "large"; destination "~/large" }' }),
    );
    rows.push(
      await compare(`a file of ${FILE_MIB} MiB, in a guest`, () => project.time('provision'), {
        reference: { name: 'scp', run: () => scp(guest, large, 'large') },
        bar: atMost(MOST_FOR_A_FILE),
        rounds: rounds(3),
      }),
    );
    return rows;
  } finally {
    project.dispose();
  }
}

function shellStep() {
  return {
    kind: 'shell',
    command: { kind: 'inline', text: 'true' },
    environment: {},
    run: 'always',
    timeoutSeconds: null,
  };
}

/** A connection that is made, then a program for each step, as a shell script would. */
function sshLoop({ config, host, control }) {
  const ssh = `ssh -F ${config} -o ControlPath=${control}`;
  const script = `${ssh} -MNf ${host} && i=0 && while [ $i -lt ${STEPS} ]; do ${ssh} ${host} true || exit 1; i=$((i + 1)); done; ${ssh} -O exit ${host}`;
  return timeShell(script);
}

function scp({ config, host, control }, from, to) {
  const ssh = `ssh -F ${config} -o ControlPath=${control}`;
  return timeShell(
    `${ssh} -MNf ${host} && scp -q -F ${config} -o ControlPath=${control} ${from} ${host}:${to} && ${ssh} -O exit ${host}`,
  );
}

function timeShell(script) {
  const begun = performance.now();
  const { status, stderr } = spawnSync('sh', ['-c', script], { stdio: ['ignore', 'ignore', 'pipe'], encoding: 'utf8' });
  if (status !== 0) throw new Error(`${script} failed: ${stderr}`);
  return performance.now() - begun;
}

/** The SSH client and the provisioner from the sources, as the build makes them. */
async function sources(folder) {
  const outfile = join(folder, 'sources.cjs');
  await build({
    stdin: {
      contents: `export { connectSsh } from './src/ssh/client.js'; export { runSteps } from './src/provision/provisioner.js';`,
      resolveDir: root,
    },
    bundle: true,
    platform: 'node',
    format: 'cjs',
    target: 'node20',
    outfile,
    logLevel: 'error',
    external: ['*.node', 'cpu-features'],
  });
  return import(pathToFileURL(outfile).href);
}

/** OpenSSH's server on a loopback port, for this user. */
class Server {
  static async start(folder) {
    const keys = ['host', 'user'].map((name) => join(folder, `${name}_key`));
    for (const key of keys) execFileSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', key]);
    const [hostKey, userKey] = keys;
    const read = (path) => execFileSync('cat', [path], { encoding: 'utf8' });
    writeFileSync(join(folder, 'authorized_keys'), read(`${userKey}.pub`), { mode: 0o600 });
    const port = await freePort();
    const { username: user } = userInfo();
    const lines = [
      `HostKey ${hostKey}`,
      `AuthorizedKeysFile ${join(folder, 'authorized_keys')}`,
      `ListenAddress 127.0.0.1`,
      `Port ${port}`,
      'PidFile none',
      'StrictModes no',
      'UsePAM no',
      'PasswordAuthentication no',
      'PermitRootLogin prohibit-password',
      'Subsystem sftp internal-sftp',
    ];
    writeFileSync(join(folder, 'sshd_config'), `${lines.join('\n')}\n`);
    if (process.getuid() === 0) mkdirSync('/run/sshd', { recursive: true });
    // For each session sshd closes every file that there could be: with the limits of some containers that takes long.
    const words = 'ulimit -n 1024 && exec /usr/sbin/sshd -D -e -f "$1"';
    const child = spawn('sh', ['-c', words, 'sh', join(folder, 'sshd_config')], { stdio: 'ignore' });
    await listening(port, child);
    writeFileSync(join(folder, 'known_hosts'), `[127.0.0.1]:${port} ${read(`${hostKey}.pub`)}`);
    const config = join(folder, 'ssh.conf');
    const settings = [
      'Host host',
      'HostName 127.0.0.1',
      `Port ${port}`,
      `User ${user}`,
      `IdentityFile ${userKey}`,
      'IdentitiesOnly yes',
      `UserKnownHostsFile ${join(folder, 'known_hosts')}`,
    ];
    writeFileSync(config, `${settings.join('\n  ')}\n`);
    chmodSync(config, 0o600);
    const publicKey = read(`${hostKey}.pub`).trim();
    const target = {
      endpoint: { host: '127.0.0.1', port },
      user,
      privateKeys: [{ source: userKey, key: read(userKey) }],
      hostKey: { kind: 'pinned', publicKey },
    };
    return Object.assign(new Server(), { config, host: 'host', control: join(folder, 'control'), target, child });
  }

  stop() {
    this.child.kill();
  }
}

async function listening(port, child) {
  while (child.exitCode === null) {
    const answered = await new Promise((resolve) => {
      const socket = connect({ host: '127.0.0.1', port }, () => socket.destroy());
      socket.on('error', () => resolve(false)).on('close', (failed) => resolve(!failed));
    });
    if (answered) return;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  throw new Error('sshd ended at once');
}

async function freePort() {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();
  server.close();
  await once(server, 'close');
  return port;
}

function writeLarge(path, mib) {
  const file = openSync(path, 'w');
  const chunk = randomBytes(1024 ** 2);
  for (let written = 0; written < mib; written += 1) writeSync(file, chunk);
  closeSync(file);
  return path;
}
