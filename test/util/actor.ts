/** Test code in processes of their own, which can be asked to do things and can be killed. */
import { type ChildProcess, type ForkOptions, fork } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { temporaryDirectory } from '../support/fixtures.js';

/** A script in `test/util/actors/`, made into one JavaScript file. */
export interface Script extends AsyncDisposable {
  start(options?: ForkOptions): Promise<Actor>;
  /** Kills every actor that is still there. */
  killAll(): Promise<void>;
}

export async function bundleScript(name: string): Promise<Script> {
  const directory = await temporaryDirectory('vmctl-actor-');
  const outfile = join(directory.path, `${name}.mjs`);
  await build({
    entryPoints: [fileURLToPath(new URL(`./actors/${name}.ts`, import.meta.url))],
    outfile,
    bundle: true,
    platform: 'node',
    format: 'esm',
    target: 'node20.19',
    // Optional parts, which are not loaded in tests.
    external: ['cpu-features', '*.node', 'typescript', 'jiti'],
    // CommonJS packages in the bundle ask for it.
    banner: { js: "import { createRequire } from 'node:module'; const require = createRequire(import.meta.url);" },
  });
  const actors: Actor[] = [];
  const killAll = async (): Promise<void> => {
    for (const actor of actors.splice(0)) await actor.kill();
  };
  return {
    start: async (options) => {
      const actor = new Actor(fork(outfile, { execArgv: [], ...options }));
      actors.push(actor);
      await actor.ask('ready');
      return actor;
    },
    killAll,
    [Symbol.asyncDispose]: async () => {
      await killAll();
      await directory[Symbol.asyncDispose]();
    },
  };
}

export type Answer = { readonly id: number; readonly value?: unknown; readonly error?: AnswerError };

export interface AnswerError {
  readonly message: string;
  readonly code: string | null;
}

export class Actor {
  readonly pid: number;
  /** Settles with its exit code when it has ended. */
  readonly ended: Promise<number | null>;
  readonly #child: ChildProcess;
  readonly #waiting = new Map<number, { resolve: (value: unknown) => void; reject: (error: Error) => void }>();
  #nextId = 1;

  constructor(child: ChildProcess) {
    if (child.pid === undefined) throw new Error('the actor has no pid');
    this.pid = child.pid;
    this.#child = child;
    child.on('message', (answer: Answer) => this.#receive(answer));
    this.ended = once(child, 'exit').then(() => child.exitCode);
    child.once('exit', () => {
      for (const { reject } of this.#waiting.values()) reject(new Error('the actor has ended'));
    });
  }

  /** Calls a function of the script. */
  ask(name: string, ...words: readonly unknown[]): Promise<unknown> {
    const id = this.#nextId++;
    const answer = new Promise<unknown>((resolve, reject) => void this.#waiting.set(id, { resolve, reject }));
    this.#child.send({ id, name, words });
    return answer;
  }

  /** Kills it with no chance to clean up; settles when it is gone. */
  async kill(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    for (const { reject } of this.#waiting.values()) reject(new Error('the actor was killed'));
    this.#waiting.clear();
    this.#child.kill('SIGKILL');
    await this.ended;
  }

  #receive(answer: Answer): void {
    const waiting = this.#waiting.get(answer.id);
    this.#waiting.delete(answer.id);
    if (answer.error === undefined) waiting?.resolve(answer.value);
    else waiting?.reject(Object.assign(new Error(answer.error.message), { code: answer.error.code }));
  }
}
