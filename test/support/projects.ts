/**
 * Projects as users have them: the examples, with vmctl installed from what `npm pack` makes, and programs of theirs
 * that are run, and interrupted, as a user does. Each run has a state directory of its own.
 */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { cp, mkdir, mkdtemp, readFile, readdir, readlink, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { statePaths } from '../../src/paths.js';
import { waitFor } from '../../src/util/wait.js';
import { lookFor } from './look-for.js';

const checkout = fileURLToPath(new URL('../..', import.meta.url));
const run = promisify(execFile);

interface ProjectsOptions {
  /** Names in examples/; each is a workspace. */
  readonly examples?: readonly string[];
  /** What is installed beside vmctl, such as `vitest@3.2.7`. */
  readonly packages?: readonly string[];
  /** The image that the examples boot. */
  readonly guest?: string;
}

const RUNNERS = { vitest: 'vitest.mjs', jest: join('bin', 'jest.js') } as const;

export class Projects implements AsyncDisposable {
  readonly root: string;
  readonly #sessions = new Set<Session>();

  private constructor(root: string) {
    this.root = root;
  }

  static async install({ examples = [], packages = [], guest }: ProjectsOptions): Promise<Projects> {
    const projects = new Projects(await mkdtemp(join(tmpdir(), 'vmctl-projects-')));
    const { root } = projects;
    const { stdout } = await run('npm', ['pack', '--silent', '--pack-destination', root], { cwd: checkout });
    const tarball = join(root, stdout.trim());
    await writeFile(join(root, 'package.json'), JSON.stringify({ private: true, workspaces: ['examples/*'] }));
    await mkdir(join(root, 'examples', 'quickstart'), { recursive: true });
    if (guest !== undefined) await symlink(guest, join(root, 'examples', 'quickstart', 'guest.qcow2'));
    for (const name of examples) await copyExample(name, join(root, 'examples', name), tarball);
    const install = ['install', '--prefer-offline', '--no-audit', '--no-fund', '--loglevel=error', '--ignore-scripts'];
    await run('npm', [...install, ...(examples.length === 0 ? [tarball] : []), ...packages], {
      cwd: root,
      env: cleanEnvironment(),
    });
    return projects;
  }

  /** The folder of an example, or of a project that does not exist yet, with these files. */
  async project(name: string, files: Readonly<Record<string, string | Uint8Array>> = {}): Promise<string> {
    const folder = join(this.root, 'examples', name);
    for (const [path, content] of Object.entries(files)) {
      await mkdir(dirname(join(folder, path)), { recursive: true });
      await writeFile(join(folder, path), content);
    }
    return folder;
  }

  /** A state directory, and the programs that use it. */
  async session(): Promise<Session> {
    const session = new Session(await mkdtemp(join(this.root, 'state-')));
    this.#sessions.add(session);
    return session;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const session of this.#sessions) await session.end();
    await rm(this.root, { recursive: true, force: true, maxRetries: 3 });
  }
}

/** The words that start the test runner that this project has installed, without npm between. */
export function runner(folder: string, name: keyof typeof RUNNERS): readonly string[] {
  const manifest = createRequire(join(folder, 'package.json')).resolve(`${name}/package.json`);
  return [process.execPath, join(dirname(manifest), RUNNERS[name])];
}

async function copyExample(name: string, folder: string, tarball: string): Promise<void> {
  const isPart = (path: string) => !['node_modules', 'package-lock.json', 'vmctl-artifacts'].includes(basename(path));
  await cp(join(checkout, 'examples', name), folder, { recursive: true, filter: isPart });
  const manifest = join(folder, 'package.json');
  const text = await readFile(manifest, 'utf8');
  if (!text.includes('"vmctl": "file:../.."')) throw new Error(`examples/${name} does not depend on this checkout`);
  await writeFile(manifest, text.replace('"file:../.."', JSON.stringify(`file:${tarball}`)));
}

/** Without what the test runner that runs this tells the processes that it starts. */
function cleanEnvironment(): NodeJS.ProcessEnv {
  const ours =
    /^(?:VITEST|VMCTL_|npm_|NODE_ENV$|NODE_OPTIONS$|NODE_TEST_CONTEXT$|TEST$|MODE$|DEV$|PROD$|SSR$|BASE_URL$)/;
  return Object.fromEntries(Object.entries(process.env).filter(([name]) => !ours.test(name)));
}

interface Ended {
  /** Null where a signal has ended it. */
  readonly code: number | null;
  readonly output: string;
}

interface Started {
  readonly child: ChildProcess;
  readonly ended: Promise<Ended>;
  /** What it has printed so far, both streams. */
  output(): string;
  /** Settles when it has written this file; fails when it ends before, or when that takes a minute. */
  writes(path: string): Promise<void>;
  /** As Ctrl-C does, to the program and all that it has started; other signals are for the program alone. */
  send(signal: 'SIGINT' | 'SIGTERM' | 'SIGKILL'): void;
}

interface RunOptions {
  /** Default 0. */
  readonly code?: number;
  readonly variables?: Readonly<Record<string, string>>;
}

export class Session {
  readonly root: string;
  readonly #started: Started[] = [];

  constructor(root: string) {
    this.root = root;
  }

  get paths() {
    return statePaths(join(this.root, 'vmctl'));
  }

  start(cwd: string, words: readonly string[], variables: Readonly<Record<string, string>> = {}): Started {
    const [program = '', ...rest] = words;
    const child = spawn(program, rest, {
      cwd,
      env: { ...cleanEnvironment(), XDG_DATA_HOME: this.root, NO_COLOR: '1', CI: '1', ...variables },
      stdio: ['ignore', 'pipe', 'pipe'],
      detached: true,
    });
    let output = '';
    const keep = (chunk: Buffer): void => void (output += chunk.toString('utf8'));
    child.stdout.on('data', keep);
    child.stderr.on('data', keep);
    // Not 'close': what it has started and left behind has its streams still.
    const ended = once(child, 'exit').then(([code]: unknown[]) => ({
      code: typeof code === 'number' ? code : null,
      output,
    }));
    const { pid } = child;
    const started: Started = {
      child,
      ended,
      output: () => output,
      writes: async (path) => {
        const look = async () => (child.exitCode === null ? await stat(path).catch(() => null) : 'ended');
        const found = await waitFor(look, { timeoutMs: 240_000 });
        if (found === null || found === 'ended') throw new Error(`${path} has not appeared:\n${output}`);
      },
      send: (signal) => {
        if (pid === undefined) throw new Error(`${program} did not start`);
        process.kill(signal === 'SIGINT' ? -pid : pid, signal);
      },
    };
    this.#started.push(started);
    return started;
  }

  /** Runs a program to its end, and gives what it printed; fails, with all of it, when it exits with another code. */
  async run(cwd: string, words: readonly string[], options: RunOptions = {}): Promise<string> {
    const { code: expected = 0, variables = {} } = options;
    const { code, output } = await this.start(cwd, words, variables).ended;
    if (code !== expected) throw new Error(`${words.join(' ')} exited with ${code}, not ${expected}:\n${output}`);
    return output;
  }

  /** Everything that is left of VMs: directories, locks, and processes that have to do with this state directory. */
  async leftovers(): Promise<readonly string[]> {
    const { runs, locks, vms } = this.paths;
    const found: string[] = [];
    for (const folder of [runs, locks, vms]) {
      for (const name of await readdir(folder).catch(() => [])) found.push(`${basename(folder)}/${name}`);
    }
    return [...found, ...(await this.#processes())];
  }

  /** Settles when nothing is left; gives what is left when the time is up. */
  async leftoversAfter(timeoutMs: number): Promise<readonly string[]> {
    let last: readonly string[] = [];
    await lookFor(async () => {
      last = await this.leftovers();
      return last.length === 0 ? true : null;
    }, timeoutMs);
    return last;
  }

  async #processes(): Promise<readonly string[]> {
    const found: string[] = [];
    for (const pid of await readdir('/proc')) {
      if (!/^\d+$/.test(pid)) continue;
      const command = (await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')).replaceAll('\0', ' ');
      const folder = await readlink(`/proc/${pid}/cwd`).catch(() => '');
      if (command.includes(this.root) || folder.startsWith(this.root)) found.push(`${pid} ${command.slice(0, 200)}`);
    }
    return found;
  }

  /** Ends what still runs. */
  async end(): Promise<void> {
    for (const { child } of this.#started) {
      if (child.pid === undefined) continue;
      try {
        process.kill(-child.pid, 'SIGKILL');
      } catch {
        // It and all that it has started have ended.
      }
    }
    await this.leftoversAfter(5000);
  }
}
