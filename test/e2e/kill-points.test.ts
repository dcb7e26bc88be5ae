/**
 * The built program on the Noop backend, ended at every change that it makes to the file system: killed, interrupted, or
 * with the host losing its power. After each of them the VMs are listed, come up, and go without a trace.
 */
import { spawn } from 'node:child_process';
import { cp, mkdir, readFile, readdir, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { statePaths } from '../../src/paths.js';
import { serveFile } from '../support/file-server.js';
import { PROGRAM, finish } from '../support/machine-room.js';
import { FULL_RUN } from '../support/random.js';
import { Rig, type RunResult } from '../support/rig.js';

const FAULT_POINT = fileURLToPath(new URL('../support/fault-point.mjs', import.meta.url));
const NAMES = ['db', 'web'];
/** Other VMFiles, of VMs of the same names. */
const DOWNLOAD = 'Download.kdl';
const WARM = 'Warm.kdl';

interface Scenario {
  readonly words: readonly string[];
  /** Commands that make the state in which it is run. */
  readonly before?: readonly (readonly string[])[];
}

const UP = [['up']];
const UP_WARM_ONCE = [
  ['up', '--file', WARM],
  ['down', '--destroy', '--file', WARM],
];
const SCENARIOS: readonly Scenario[] = [
  { words: ['up'] },
  { words: ['up'], before: [['up'], ['down']] },
  { words: ['up', '--file', DOWNLOAD] },
  { words: ['up', '--file', WARM] },
  { words: ['up', '--file', WARM], before: UP_WARM_ONCE },
  { words: ['reset', 'web'], before: [['up', '--file', WARM]] },
  { words: ['reload'], before: UP },
  { words: ['down'], before: UP },
  { words: ['down', '--destroy'], before: UP },
  { words: ['suspend', 'web', 'db'], before: UP },
  { words: ['resume', 'web', 'db'], before: [['up'], ['suspend', 'web', 'db']] },
  { words: ['provision'], before: UP },
  { words: ['destroy', 'web', '--yes'], before: UP },
  { words: ['create', '--name', 'third', '--image', 'disk.raw'], before: UP },
  { words: ['run', '--', 'true'], before: UP },
];

/** How it ends; at each of so many changes, spread evenly, where time is short. */
const FAULTS = [
  { kind: 'SIGKILL', points: 5 },
  { kind: 'power', points: 3 },
  { kind: 'SIGTERM', points: 1 },
  { kind: 'SIGINT', points: 1 },
] as const;

/** A project, and state directories that it is used with in turn. */
class Bench {
  readonly rig: Rig;
  #count = 0;

  constructor(rig: Rig) {
    this.rig = rig;
  }

  newState(): string {
    this.#count += 1;
    return join(this.rig.root, `state-${this.#count}`);
  }

  /** The command in this process, as one that comes afterwards. */
  async vmctl(state: string, ...words: readonly string[]): Promise<RunResult> {
    return this.rig.vmctl(words, { variables: { VMCTL_STATE: state } });
  }

  /** The program as a process of its own, that is ended at a change. */
  async faulty(state: string, words: readonly string[], fault: Readonly<Record<string, string>>): Promise<RunResult> {
    const child = spawn(process.execPath, ['--import', FAULT_POINT, PROGRAM, ...words], {
      cwd: this.rig.project,
      env: { PATH: process.env['PATH'], HOME: this.rig.root, VMCTL_BACKEND: 'noop', VMCTL_STATE: state, ...fault },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    return finish(child);
  }
}

/** The numbers of the changes at which it is ended: all of them, or so many. */
function pointsOf(changes: number, wanted: number): readonly number[] {
  const count = FULL_RUN ? changes : Math.min(changes, wanted);
  return Array.from({ length: count }, (_, index) => 1 + Math.floor(((index + 0.5) * changes) / count));
}

async function states(bench: Bench, state: string): Promise<Readonly<Record<string, string>>> {
  const { exitCode, stdout, stderr } = await bench.vmctl(state, 'list', '--json');
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
  const { vms }: { vms: readonly { name: string; state: string }[] } = JSON.parse(stdout);
  return Object.fromEntries(vms.map(({ name, state: now }) => [name, now]));
}

/** Files of VMs without a byte in them: what was lost with the power, and was needed. */
async function emptyFiles(state: string): Promise<readonly string[]> {
  const { vms } = statePaths(state);
  const found: string[] = [];
  for (const vm of await readdir(vms)) {
    for (const name of await readdir(join(vms, vm))) {
      // What a killed process was writing goes with the VM, and nobody reads it.
      if (name === 'stopping' || name.endsWith('.tmp')) continue;
      if ((await stat(join(vms, vm, name))).size === 0) found.push(`${vm}/${name}`);
    }
  }
  return found;
}

/** What has to hold after any end: `list` is true, `up` ends well, `down --destroy` leaves nothing. */
async function isWell(bench: Bench, state: string): Promise<void> {
  const known = await states(bench, state);
  for (const name of Object.keys(known)) {
    expect(await bench.vmctl(state, 'status', name)).toMatchObject({ exitCode: 0 });
  }
  const up = await bench.vmctl(state, 'up');
  expect({ exitCode: up.exitCode, stderr: up.stderr }).toMatchObject({ exitCode: 0 });
  expect(await states(bench, state)).toMatchObject({ db: 'running', web: 'running' });
  expect(await emptyFiles(state)).toEqual([]);
  const others = Object.keys(await states(bench, state)).filter((name) => !NAMES.includes(name));
  expect(await bench.vmctl(state, 'down', '--destroy')).toMatchObject({ exitCode: 0 });
  for (const name of others) expect(await bench.vmctl(state, 'destroy', name, '--yes')).toMatchObject({ exitCode: 0 });
  expect(await bench.vmctl(state, 'gc', '--kept')).toMatchObject({ exitCode: 0 });
  const paths = statePaths(state);
  expect(await states(bench, state)).toEqual({});
  const lists = await Promise.all([paths.vms, paths.locks, paths.runs].map((path) => readdir(path).catch(() => [])));
  expect(lists).toEqual([[], [], []]);
  const images = await readdir(paths.images).catch((): string[] => []);
  expect(images.filter((name) => /\.tmp$|\.lock/.test(name))).toEqual([]);
  expect((await readdir(state)).filter((name) => name.endsWith('.tmp'))).toEqual([]);
}

/**
 * The same for VMs that are frozen: whatever is left of that, they come up, and from then on they start from what is
 * frozen.
 */
async function isWarm(bench: Bench, state: string): Promise<void> {
  const file = ['--file', WARM];
  for (let time = 0; time < 2; time += 1) {
    const up = await bench.vmctl(state, 'up', ...file);
    expect({ exitCode: up.exitCode, stderr: up.stderr }).toMatchObject({ exitCode: 0 });
    expect(await bench.vmctl(state, 'down', '--destroy', ...file)).toMatchObject({ exitCode: 0 });
  }
  const { stderr } = await bench.vmctl(state, 'up', ...file);
  expect(stderr.match(/from what was frozen/g)).toHaveLength(NAMES.length);
  expect(await bench.vmctl(state, 'down', '--destroy', ...file)).toMatchObject({ exitCode: 0 });
  const { warm } = statePaths(state);
  expect((await readdir(warm)).filter((name) => name.startsWith('.') || name.endsWith('.lock'))).toEqual([]);
}

const CASES = SCENARIOS.map(({ words, before = [] }) => {
  const title = ['vmctl', ...words, ...(before.length === 0 ? [] : ['after', ...before.flat()])].join(' ');
  return { title, words, before };
});

test.for(CASES)(
  '$title: ended anywhere, it leaves what the next commands need',
  { timeout: FULL_RUN ? 3_600_000 : 240_000 },
  async ({ words, before }) => {
    await using rig = await Rig.create();
    const image = await rig.write('image/base.raw', Buffer.alloc(1024 * 1024, 7));
    await using server = await serveFile(image);
    await rig.declare({ web: 'cloud-init; ssh; depends-on "db"', db: 'cloud-init' });
    await rig.write(DOWNLOAD, `vm "web" { image-url "${server.url}" }\nvm "db" { image-url "${server.url}" }\n`);
    const step = 'provision "shell" { inline "true" }';
    await rig.write(
      WARM,
      NAMES.map((name) => `vm "${name}" { image "disk.raw"; ssh; warm #true; ${step} }`).join('\n'),
    );
    const usesWarm = [words, ...before].some((command) => command.includes(WARM));
    const bench = new Bench(rig);
    const make = async (): Promise<string> => {
      const state = bench.newState();
      await mkdir(state);
      for (const earlier of before) expect(await bench.vmctl(state, ...earlier)).toMatchObject({ exitCode: 0 });
      return state;
    };
    const start = await make();
    const copy = async (): Promise<string> => {
      const state = bench.newState();
      await cp(start, state, { recursive: true, verbatimSymlinks: true });
      return state;
    };
    // A frozen VM whose files are others than they were is taken for damaged.
    const fresh = usesWarm ? make : copy;

    const trace = join(rig.root, 'trace');
    const whole = await fresh();
    expect(await bench.faulty(whole, words, { VMCTL_FAULT_TRACE: trace })).toMatchObject({ exitCode: 0 });
    const changes = (await readFile(trace, 'utf8')).trim().split('\n');
    const endAt = async (kind: string, point: number): Promise<void> => {
      const state = await fresh();
      const ended = await bench.faulty(state, words, { VMCTL_FAULT: kind, VMCTL_FAULT_AT: String(point) });
      try {
        const isHandled = kind === 'SIGTERM' || kind === 'SIGINT';
        // Where two VMs go on at the same time, there may be fewer changes than there were at first.
        expect(isHandled ? [0, 130, 143] : [-9, 0]).toContain(ended.exitCode);
        await bench.vmctl(state, 'gc', '--kept');
        if (words.includes(DOWNLOAD)) await bench.vmctl(state, 'down', '--destroy', '--file', DOWNLOAD);
        if (usesWarm) await isWarm(bench, state);
        await isWell(bench, state);
      } catch (error) {
        const change = `${point} of ${changes.length}: ${changes[point - 1]}`;
        throw new Error(`${kind} at change ${change}, which printed: ${ended.stderr}`, { cause: error });
      }
      await rm(state, { recursive: true, force: true });
    };
    await Promise.all(
      FAULTS.map(async ({ kind, points }) => {
        for (const point of pointsOf(changes.length, points)) await endAt(kind, point);
      }),
    );
  },
);
