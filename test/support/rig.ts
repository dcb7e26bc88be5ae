/**
 * Runs vmctl's command line in this process, on the Noop backend, in a project folder and a state directory of its
 * own. What it prints is kept; the backend can be told to wait or to fail.
 */
import { mkdtemp, mkdir, readFile, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { PassThrough } from 'node:stream';
import type { Cli } from '../../src/cli/cli.js';
import { runCli } from '../../src/cli/main.js';
import type { Hypervisor } from '../../src/hypervisor/hypervisor.js';
import { NoopBackend, type NoopOptions } from '../../src/hypervisor/noop.js';
import { RouterHypervisor } from '../../src/hypervisor/router.js';
import type { TaskEnvironment } from '../../tasks/context.js';
import { createEnvironment } from '../../tasks/environment.js';
import { type StatePaths, statePaths } from '../../src/paths.js';

export interface RunResult {
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface RunExtras {
  readonly variables?: Readonly<Record<string, string>>;
  readonly signal?: AbortSignal;
  readonly stdin?: string;
  /** Below the project. */
  readonly cwd?: string;
  /** Makes stdin and stderr terminals, as for a person who is asked something. */
  readonly terminal?: boolean;
  /** Told whatever is written to stdout or stderr, as soon as it is. */
  readonly onOutput?: (text: string) => void;
}

export interface RigOptions {
  readonly before?: NoopOptions['before'];
  /** In place of Noop. */
  readonly backend?: (paths: StatePaths) => Hypervisor;
}

const pathsBelow = (root: string): StatePaths => statePaths(join(root, 'data', 'vmctl'));

export class Rig implements AsyncDisposable {
  readonly root: string;
  readonly project: string;
  readonly #backend: Hypervisor;

  private constructor(root: string, backend: Hypervisor) {
    this.root = root;
    this.project = join(root, 'project');
    this.#backend = backend;
  }

  static async create(options: RigOptions = {}): Promise<Rig> {
    const rig = Rig.join(await mkdtemp(join(tmpdir(), 'vmctl-rig-')), options);
    await mkdir(rig.project);
    // An empty raw disk: enough of an image for a backend that boots nothing.
    await rig.write('disk.raw', Buffer.alloc(1024 * 1024));
    return rig;
  }

  /** One that another process has created, and removes. */
  static join(root: string, options: RigOptions = {}): Rig {
    const { before, backend = () => new NoopBackend(before === undefined ? {} : { before }) } = options;
    return new Rig(root, backend(pathsBelow(root)));
  }

  get paths() {
    return pathsBelow(this.root);
  }

  /** Writes a file of the project. */
  async write(name: string, content: string | Uint8Array): Promise<string> {
    const path = join(this.project, name);
    await mkdir(dirname(path), { recursive: true });
    await writeFile(path, content);
    return path;
  }

  /** Writes a VMFile that declares VMs of these names, each with its extra lines. */
  async declare(vms: Readonly<Record<string, string>>): Promise<void> {
    const text = Object.entries(vms).map(([name, extra]) => `vm "${name}" {\n  image "disk.raw"\n${extra}\n}\n`);
    await this.write('VMFile.kdl', text.join('\n'));
  }

  async vmctl(words: readonly string[], extras: RunExtras = {}): Promise<RunResult> {
    const stdout = new Capture(false, extras.onOutput);
    const stderr = new Capture(extras.terminal === true, extras.onOutput);
    const stdin = Object.assign(new PassThrough(), extras.terminal === true ? { isTTY: true } : {});
    stdin.end(extras.stdin ?? '');
    const cli: Cli = {
      stdin,
      stdout,
      stderr,
      variables: { PATH: process.env['PATH'], XDG_DATA_HOME: join(this.root, 'data'), ...extras.variables },
      home: join(this.root, 'home'),
      cwd: join(this.project, extras.cwd ?? ''),
      signal: extras.signal ?? new AbortController().signal,
      onInterrupt: null,
      onOutputClosed: null,
      ignoreInterrupts: () => {},
      passSignals: () => {},
      wordsBeforeDashes: 0,
      exitCode: 0,
      hypervisor: this.#router(),
    };
    const exitCode = await runCli(words, cli);
    return { exitCode, stdout: stdout.text, stderr: stderr.text };
  }

  /** What the tasks are given, for a test of one of them. */
  environment(): TaskEnvironment {
    return createEnvironment({
      variables: { XDG_DATA_HOME: join(this.root, 'data') },
      home: join(this.root, 'home'),
      cwd: this.project,
      command: 'test',
      signal: new AbortController().signal,
      hypervisor: this.#router(),
    });
  }

  #router(): RouterHypervisor {
    return new RouterHypervisor([this.#backend], this.#backend.kind);
  }

  /** The states that `vmctl list` tells, by name. */
  async states(): Promise<Readonly<Record<string, string>>> {
    const { stdout } = await this.vmctl(['list', '--json']);
    const { vms }: { vms: readonly { name: string; state: string }[] } = JSON.parse(stdout);
    return Object.fromEntries(vms.map(({ name, state }) => [name, state]));
  }

  /** Names in `vms/`, those under construction included. */
  async directories(): Promise<readonly string[]> {
    return (await readdir(this.paths.vms).catch(() => [])).toSorted((a, b) => (a < b ? -1 : 1));
  }

  async registry(): Promise<{ readonly vms: Readonly<Record<string, unknown>> }> {
    return JSON.parse(await readFile(this.paths.registry, 'utf8'));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await rm(this.root, { recursive: true, force: true });
  }
}

/** A stream that keeps what it is given. */
class Capture {
  readonly #chunks: Buffer[] = [];
  readonly isTTY: boolean;
  readonly #onOutput: (text: string) => void;

  constructor(isTTY: boolean, onOutput: (text: string) => void = () => {}) {
    this.isTTY = isTTY;
    this.#onOutput = onOutput;
  }

  write(chunk: string | Uint8Array): boolean {
    this.#chunks.push(Buffer.from(chunk));
    this.#onOutput(Buffer.from(chunk).toString('utf8'));
    return true;
  }

  get text(): string {
    return Buffer.concat(this.#chunks).toString('utf8');
  }
}

/** A promise that the test settles. */
export function gate(): { readonly passed: Promise<void>; open(): void } {
  let open = () => {};
  const passed = new Promise<void>((resolve) => {
    open = resolve;
  });
  return { passed, open };
}
