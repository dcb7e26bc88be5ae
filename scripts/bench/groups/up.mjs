// One small guest from nothing to the first word of its SSH server, against a shell script with the same QEMU.
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { atMost, compare } from '../lib/measure.mjs';
import { pocketProject } from '../lib/projects.mjs';

export const title = 'Overhead of up';
export const about =
  'One small guest, from nothing to the banner of its SSH server, against a shell script that makes the disk and the seed, starts the same QEMU and asks every 20 ms.';
export const programs = ['qemu-system-x86_64', 'qemu-img', 'xorriso'];

export async function run({ scratch, rounds, guestImage }) {
  const image = guestImage();
  const project = pocketProject(join(scratch, 'vmctl'), image, { pocket: '' });
  try {
    const { words, files } = await recipe(project, join(scratch, 'seed'));
    return [
      await compare('vmctl up to the SSH banner', () => bannerOf(project), {
        reference: { name: 'a shell script', run: () => script(join(scratch, 'script'), { image, files, words }) },
        bar: atMost(1.1),
        rounds: rounds(7),
        // The one whose recipe was taken has warmed up what there is.
        warmUp: false,
      }),
    ];
  } finally {
    project.dispose();
  }
}

/** Milliseconds until vmctl has seen the banner; the VM is removed again. */
async function bannerOf(project) {
  let ms = null;
  await project.up([], ({ type, text, activity }, now) => {
    if (type === 'status' && activity?.on === 'guest' && text.startsWith('SSH answers')) ms ??= now;
  });
  project.time('down', '--destroy');
  if (ms === null) throw new Error('up told nothing of a banner');
  return ms;
}

/** What QEMU is told and what the seed holds, taken from a VM that vmctl has made. */
async function recipe(project, files) {
  await project.up();
  const directory = project.directory('pocket');
  const pid = readFileSync(join(directory, 'pidfile'), 'utf8').trim();
  const words = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0').slice(0, -1);
  mkdirSync(files);
  const iso = join(directory, 'seed.iso');
  execFileSync('xorriso', ['-osirrox', 'on', '-indev', iso, '-extract', '/', files], { stdio: 'ignore' });
  chmodSync(files, 0o700);
  project.time('down', '--destroy');
  return { words, files };
}

async function script(folder, { image, files, words }) {
  const port = await freePort();
  const own = words.map((word) => word.replace('tcp:127.0.0.1:0-', `tcp:127.0.0.1:${port}-`));
  const begun = performance.now();
  const path = fileURLToPath(new URL('../lib/boot.sh', import.meta.url));
  const child = spawn(path, [folder, image, files, port, ...own], { stdio: ['ignore', 'pipe', 'inherit'] });
  let pid = '';
  child.stdout.on('data', (chunk) => (pid += String(chunk)));
  const [code] = await once(child, 'exit');
  const ms = performance.now() - begun;
  if (pid !== '') process.kill(Number(pid));
  if (code !== 0) throw new Error(`the script failed: ${readFileSync(join(folder, 'qemu.log'), 'utf8')}`);
  rmSync(folder, { recursive: true, force: true });
  return ms;
}

async function freePort() {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();
  server.close();
  await once(server, 'close');
  return port;
}
