// The image cache against what a shell does by hand, from a server on loopback: speed, memory, and what a download that
// was killed still has to fetch.
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { randomFillSync } from 'node:crypto';
import { once } from 'node:events';
import { mkdirSync, openSync, closeSync, readFileSync, readdirSync, rmSync, statSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { atLeastSpeed, atMost, atMostValue, compare, row } from '../lib/measure.mjs';
import { program } from '../lib/projects.mjs';

const MIB = 1024 ** 2;
const GIB = 1024 ** 3;

export const title = 'Images';
export const about =
  'Downloads from a server on this host, against curl; what a download that was killed fetches again; memory.';
export const programs = ['curl', 'zstd'];

export async function run({ scratch, rounds }) {
  const folder = join(scratch, 'images');
  mkdirSync(folder);
  writeDisk(join(folder, 'plain.raw'), GIB);
  execFileSync('zstd', ['-q', '-3', '-o', join(folder, 'packed.zst'), join(folder, 'plain.raw')]);
  const server = spawn(process.execPath, [fileURLToPath(new URL('../lib/server.mjs', import.meta.url)), folder], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  try {
    const [port] = await once(server.stdout, 'data');
    const url = (name) => `http://127.0.0.1:${String(port).trim()}/${name}`;
    const cache = join(scratch, 'image-cache');
    const env = { ...process.env, XDG_DATA_HOME: cache };
    const pull = (name) => [program, 'image', 'pull', url(name)];
    const timed = (name) => {
      rmSync(cache, { recursive: true, force: true });
      return milliseconds(() => spawnSync(process.execPath, pull(name), { env, stdio: 'ignore' }).status);
    };
    const shell = (words) => milliseconds(() => spawnSync('sh', ['-c', words], { stdio: 'ignore' }).status);
    const bar = atLeastSpeed(0.8);
    const rows = [
      await compare('image pull, 1 GiB', () => timed('plain.raw'), {
        reference: { name: 'curl | sha256sum', run: () => shell(`curl -sS ${url('plain.raw')} | sha256sum`) },
        bar,
        rounds: rounds(5),
      }),
      await compare('image pull, 1 GiB in zstd', () => timed('packed.zst'), {
        reference: {
          name: 'curl | zstd -d | sha256sum',
          run: () => shell(`curl -sS ${url('packed.zst')} | zstd -dc | sha256sum`),
        },
        bar,
        rounds: rounds(5),
      }),
    ];
    rmSync(cache, { recursive: true, force: true });
    rows.push(await killedAtSixtyPercent(pull('plain.raw'), { env, cache, url }));
    writeDisk(join(folder, 'plain.raw'), 2 * GIB);
    writeDisk(join(folder, 'small.raw'), MIB);
    rows.push(await memory({ env, cache, pull }));
    return rows;
  } finally {
    server.kill();
  }
}

/** A download that is killed when 60 % are on the disk, and what the next one asks for. */
async function killedAtSixtyPercent(words, { env, cache, url }) {
  const child = spawn(process.execPath, words, { env, stdio: 'ignore' });
  const directory = join(cache, 'vmctl', 'images');
  for (let size = 0; size < 0.6 * GIB; ) {
    await new Promise((resolve) => setTimeout(resolve, 2));
    size = partialBytes(directory);
  }
  child.kill('SIGKILL');
  await once(child, 'exit');
  await statistics(url);
  if (spawnSync(process.execPath, words, { env, stdio: 'ignore' }).status !== 0) throw new Error('it did not go on');
  const fetched = await statistics(url);
  return row('killed at 60 %, what is fetched then', {
    own: [fetched],
    others: [GIB],
    reference: 'all of it',
    unit: 'bytes',
    bar: atMost(0.41),
  });
}

function partialBytes(directory) {
  try {
    const part = readdirSync(directory).find((name) => name.endsWith('.part'));
    return part === undefined ? 0 : statSync(join(directory, part)).size;
  } catch {
    return 0;
  }
}

async function statistics(url) {
  const { bytes } = await (await fetch(url('stats'))).json();
  return bytes;
}

/** How much more memory 2 GiB take than 1 MiB. */
async function memory({ env, cache, pull }) {
  const peaks = [];
  for (const name of ['small.raw', 'plain.raw']) {
    rmSync(cache, { recursive: true, force: true });
    const child = spawn(process.execPath, pull(name), { env, stdio: 'ignore' });
    let peak = 0;
    const look = setInterval(() => (peak = Math.max(peak, peakBytes(child.pid))), 5);
    const [code] = await once(child, 'exit');
    clearInterval(look);
    if (code !== 0) throw new Error(`image pull failed with exit code ${code}`);
    peaks.push(peak);
  }
  const [small, large] = peaks;
  return row('memory for an image of 2 GiB', {
    own: [large],
    others: [small],
    reference: 'memory for 1 MiB',
    unit: 'bytes',
    bar: atMostValue(small + 100e6, 'under 100 MB more'),
  });
}

/** The most that the process has had in memory (proc(5), `VmHWM`); 0 when it is gone. */
function peakBytes(pid) {
  try {
    return Number(/^VmHWM:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 0) * 1024;
  } catch {
    return 0;
  }
}

/** Half of it random, half of it empty, as disks are; never known for anything but a raw one. */
function writeDisk(path, bytes) {
  const file = openSync(path, 'w');
  const chunk = Buffer.alloc(Math.min(bytes, MIB));
  for (let written = 0; written < bytes; written += chunk.length) {
    randomFillSync(chunk, 0, chunk.length / 2);
    chunk.writeUInt32BE(1, 0);
    writeSync(file, chunk);
  }
  closeSync(file);
}

/** Milliseconds of something that has to succeed. */
function milliseconds(work) {
  const begun = performance.now();
  const status = work();
  if (status !== 0) throw new Error(`it failed with exit code ${status}`);
  return performance.now() - begun;
}
