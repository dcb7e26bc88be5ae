/**
 * A project folder and a state directory for programs that use the API: in this process, where the backend can be told
 * to wait or to fail, or as processes of their own on the built package, which can be killed.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Outside } from '../../src/api/outside.js';
import { NoopBackend, type NoopOptions } from '../../src/hypervisor/noop.js';
import { RouterHypervisor } from '../../src/hypervisor/router.js';
import { statePaths } from '../../src/paths.js';
import { lookFor } from './look-for.js';

const PACKAGE = new URL('../../dist/index.js', import.meta.url).href;
const COMMAND_LINE = fileURLToPath(new URL('../../dist/cli.js', import.meta.url));

export class Programs implements AsyncDisposable {
  readonly root: string;
  readonly project: string;
  readonly #before: NoopOptions['before'];
  readonly #children = new Set<ChildProcess>();

  private constructor(root: string, before: NoopOptions['before']) {
    this.root = root;
    this.project = join(root, 'project');
    this.#before = before;
  }

  static async create(options: { readonly before?: NoopOptions['before'] } = {}): Promise<Programs> {
    const programs = new Programs(await mkdtemp(join(tmpdir(), 'vmctl-api-')), options.before);
    await programs.write('disk.raw', Buffer.alloc(1024 * 1024));
    return programs;
  }

  get paths() {
    return statePaths(join(this.root, 'data', 'vmctl'));
  }

  get variables(): Readonly<Record<string, string>> {
    return { XDG_DATA_HOME: join(this.root, 'data'), XDG_CONFIG_HOME: join(this.root, 'config') };
  }

  /** The world for API functions in this process. */
  get outside(): Outside {
    return {
      variables: { PATH: process.env['PATH'], ...this.variables },
      home: join(this.root, 'home'),
      cwd: this.project,
      command: 'a test',
      hypervisor: new RouterHypervisor(
        [new NoopBackend(this.#before === undefined ? {} : { before: this.#before })],
        'noop',
      ),
    };
  }

  /** The same with this package's own backends: real guests. */
  get real(): Outside {
    return { ...this.outside, variables: { ...process.env, ...this.variables }, hypervisor: undefined };
  }

  async write(name: string, content: string | Uint8Array): Promise<string> {
    const path = join(this.project, name);
    await mkdir(dirname(path), { recursive: true });
    await writeFile(path, content);
    return path;
  }

  /** Starts an ES module that can import from `vmctl`; its stdout and stderr are pipes. */
  async start(source: string, variables: Readonly<Record<string, string>> = {}): Promise<ChildProcess> {
    const text = source.replaceAll(/from 'vmctl'/g, `from ${JSON.stringify(PACKAGE)}`);
    const script = await this.write('program.mjs', text);
    return this.#spawn([script], variables);
  }

  /** Starts the built command line. */
  vmctl(words: readonly string[], variables: Readonly<Record<string, string>> = {}): ChildProcess {
    return this.#spawn([COMMAND_LINE, ...words], variables);
  }

  #spawn(words: readonly string[], variables: Readonly<Record<string, string>>): ChildProcess {
    const child = spawn(process.execPath, words, {
      cwd: this.project,
      env: { ...process.env, ...this.variables, ...variables },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    this.#children.add(child);
    return child;
  }

  /** What there is of runs: the names of their directories. */
  async runs(): Promise<readonly string[]> {
    return (await readdir(this.paths.runs).catch(() => [])).toSorted((a, b) => (a < b ? -1 : 1));
  }

  /** Whether nothing is left within three seconds. */
  async areGone(left: () => Promise<readonly string[]> = () => this.runs()): Promise<boolean> {
    return (await lookFor(async () => ((await left()).length === 0 ? true : null), 3_000)) === true;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const child of this.#children) child.kill('SIGKILL');
    // Watchdogs of what was killed are at work still.
    if (this.#children.size > 0) await this.areGone();
    await rm(this.root, { recursive: true, force: true, maxRetries: 5 });
  }
}
