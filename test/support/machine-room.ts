/**
 * Real runs: the built `vmctl` as a process of its own, on real QEMU, in a project folder and a state directory that
 * nobody else uses. What is still running at the end of a test is ended, and everything is removed.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readFile, readdir, readlink, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import type { VmEvent } from '../../src/model/event.js';
import { statePaths } from '../../src/paths.js';
import { waitFor } from '../../src/util/wait.js';
import type { RunResult } from './rig.js';
import type { SmallDisk } from './small-disk.js';

/** The built command line. */
export const PROGRAM = fileURLToPath(new URL('../../dist/cli.js', import.meta.url));

export interface RoomOptions {
  /** Goes into the paths of project and state directory. */
  readonly folder?: string;
  readonly variables?: Readonly<Record<string, string>>;
  /** A command that runs the words after it, such as `ip netns exec NAME`; vmctl is run by it. */
  readonly runner?: readonly string[];
}

export class MachineRoom implements AsyncDisposable {
  readonly root: string;
  readonly project: string;
  readonly #variables: Readonly<Record<string, string>>;
  readonly #runner: readonly string[];
  readonly #children = new Set<ChildProcess>();
  readonly #disks: SmallDisk[] = [];

  private constructor(root: string, options: RoomOptions) {
    this.root = root;
    this.project = join(root, options.folder ?? 'room', 'project');
    this.#runner = options.runner ?? [];
    this.#variables = { XDG_DATA_HOME: join(root, options.folder ?? 'room', 'data'), ...options.variables };
  }

  static async open(options: RoomOptions = {}): Promise<MachineRoom> {
    if (!existsSync(PROGRAM))
      throw new Error('vmctl is not built: run "npm run build" first, or the tests by "npm test"');
    const room = new MachineRoom(await mkdtemp(join(tmpdir(), 'vmctl-e2e-')), options);
    await mkdir(room.project, { recursive: true });
    return room;
  }

  get paths() {
    return statePaths(join(dirname(this.project), 'data', 'vmctl'));
  }

  /** The variables with which a program finds this room's state directory. */
  get variables(): Readonly<Record<string, string>> {
    return this.#variables;
  }

  /** Puts the state directory on a disk of its own. */
  async keepStateOn(mount: (path: string) => Promise<SmallDisk | null>): Promise<SmallDisk> {
    const disk = await mount(dirname(this.paths.root));
    if (disk === null) throw new Error('a file system cannot be mounted here');
    this.#disks.push(disk);
    return disk;
  }

  async write(name: string, content: string, mode = 0o644): Promise<string> {
    const path = join(this.project, name);
    await mkdir(dirname(path), { recursive: true });
    await writeFile(path, content, { mode });
    return path;
  }

  /** Starts vmctl and does not wait for it. */
  start(words: readonly string[]): ChildProcess {
    const [program = process.execPath, ...rest] = [...this.#runner, process.execPath, PROGRAM, ...words];
    const child = spawn(program, rest, {
      cwd: this.project,
      env: { ...process.env, ...this.#variables },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    this.#children.add(child);
    return child;
  }

  async vmctl(...words: readonly string[]): Promise<RunResult> {
    return finish(this.start(words));
  }

  /** Starts `vmctl up --json` and calls `reached` once, at the first event that is the moment. */
  async upUntil(isMoment: (event: VmEvent) => boolean, reached: (child: ChildProcess) => void): Promise<RunResult> {
    const child = this.start(['up', '--json']);
    const result = finish(child);
    if (child.stdout === null) throw new Error('vmctl has no stdout');
    let done = false;
    for await (const line of createInterface({ input: child.stdout })) {
      const event: VmEvent = JSON.parse(line);
      if (done || !isMoment(event)) continue;
      done = true;
      reached(child);
    }
    return result;
  }

  /** What `vmctl list` says of each VM. */
  async states(): Promise<Readonly<Record<string, string>>> {
    const { stdout } = await this.vmctl('list', '--json');
    const { vms }: { vms: readonly { name: string; state: string }[] } = JSON.parse(stdout);
    return Object.fromEntries(vms.map(({ name, state }) => [name, state]));
  }

  /** The QEMU processes that work in this state directory, by the name of their VM. */
  async machines(): Promise<Readonly<Record<string, number>>> {
    const found: Record<string, number> = {};
    for (const entry of await readdir('/proc')) {
      if (!/^\d+$/.test(entry)) continue;
      const directory = await readlink(`/proc/${entry}/cwd`).catch(() => '');
      if (dirname(directory) !== this.paths.vms || !(await isQemu(entry))) continue;
      found[directory.slice(this.paths.vms.length + 1)] = Number(entry);
    }
    return found;
  }

  /** Sends a signal to a VM's QEMU; throws when it has none. */
  async signal(name: string, signal: NodeJS.Signals): Promise<void> {
    const pid = (await this.machines())[name];
    if (pid === undefined) throw new Error(`VM "${name}" has no QEMU`);
    process.kill(pid, signal);
  }

  /** Everything that is left of VMs: directories, those under construction included, and processes. */
  async leftovers(): Promise<readonly string[]> {
    const directories = await readdir(this.paths.vms).catch(() => []);
    const machines = Object.keys(await this.machines()).map((name) => `qemu ${name}`);
    return [...directories, ...machines];
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const child of this.#children) child.kill('SIGKILL');
    for (const pid of Object.values(await this.machines())) process.kill(pid, 'SIGKILL');
    await waitFor(async () => (Object.keys(await this.machines()).length === 0 ? true : null), { timeoutMs: 10_000 });
    // Not before: the machines are found by the folders that they are in.
    for (const disk of this.#disks) await disk[Symbol.asyncDispose]();
    await rm(this.root, { recursive: true, force: true, maxRetries: 3 });
  }
}

async function isQemu(pid: string): Promise<boolean> {
  const name = await readFile(`/proc/${pid}/comm`, 'utf8').catch(() => '');
  return name.startsWith('qemu-system');
}

/** Waits for a process, and gives what it printed. */
export async function finish(child: ChildProcess): Promise<RunResult> {
  const output = { stdout: '', stderr: '' };
  child.stdout?.on('data', (chunk: Buffer) => (output.stdout += chunk.toString('utf8')));
  child.stderr?.on('data', (chunk: Buffer) => (output.stderr += chunk.toString('utf8')));
  return { exitCode: await exitCodeOf(child), ...output };
}

/** Waits for a process that prints more than a test can hold; what it prints is dropped. */
export async function finishUnheard(child: ChildProcess): Promise<Pick<RunResult, 'exitCode'>> {
  child.stdout?.resume();
  child.stderr?.resume();
  return { exitCode: await exitCodeOf(child) };
}

/** -9 for one that a signal has ended. */
async function exitCodeOf(child: ChildProcess): Promise<number> {
  const ended: unknown[] = await once(child, 'close');
  const [code, signal] = ended;
  return typeof code === 'number' ? code : signal === null ? -1 : -9;
}
