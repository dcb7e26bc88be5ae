/** The only file that starts programs. */
import type { Buffer } from 'node:buffer';
import { once } from 'node:events';
import { createWriteStream } from 'node:fs';
import { Socket } from 'node:net';
import { constants } from 'node:os';
import type { Readable, Writable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type { Options } from 'execa';
import { VmctlError } from '../errors.js';
import { PRIVATE_FILE_MODE } from '../paths.js';
import { readLast } from './file-tail.js';
import { stateDirectoryError } from './fs.js';
import { throwIfAborted } from './wait.js';

export interface CommandResult {
  readonly stdout: string;
  readonly stderr: string;
}

export interface RunOptions {
  readonly signal?: AbortSignal;
  readonly cwd?: string;
  readonly input?: string;
  /** Milliseconds; default none. */
  readonly timeoutMs?: number;
}

/** Loaded when the first program is started: most commands start none, and it is a good part of the time they take. */
const loadExeca = () => import('execa');

/** Runs a program to its end. A test hands in another one. */
export type CommandRunner = (
  program: string,
  arguments_: readonly string[],
  options?: RunOptions,
) => Promise<CommandResult>;

/**
 * Runs a program with `LC_ALL=C` and no shell, and gives what it printed.
 * Throws `HOST_UNSUPPORTED` when it cannot be run, `ABORTED` when cancelled, `COMMAND_FAILED` with its own words else.
 */
export const runCommand: CommandRunner = async (program, arguments_, options = {}) => {
  // execa starts the program even if the signal is aborted already, and ends it then.
  throwIfAborted(options.signal);
  const settings = {
    env: { LC_ALL: 'C' },
    reject: false,
    ...(options.input === undefined ? { stdin: 'ignore' as const } : { input: options.input }),
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
    ...(options.timeoutMs === undefined ? {} : { timeout: options.timeoutMs }),
    ...(options.signal === undefined ? {} : { cancelSignal: options.signal }),
  } satisfies Options;
  const { execa } = await loadExeca();
  const result = await execa(program, [...arguments_], settings);
  if (!result.failed) return { stdout: result.stdout, stderr: result.stderr };
  if (result.isCanceled) throw new VmctlError('ABORTED', 'interrupted', { cause: result.cause });
  throwIfNotRunnable(program, result);
  const words = result.stderr.trim() === '' ? result.stdout.trim() : result.stderr.trim();
  const how = result.timedOut
    ? `did not finish within ${options.timeoutMs} ms`
    : `failed ${result.exitCode === undefined ? `(${result.shortMessage})` : `with exit code ${result.exitCode}`}`;
  throw new VmctlError('COMMAND_FAILED', `${program} ${how}${words === '' ? '' : `: ${lastLine(words)}`}`, {
    ...(words.includes('\n') ? { details: words } : {}),
    ...(words.includes('No space left on device') ? { hint: 'Free some space on that file system.' } : {}),
    cause: result.cause,
    fields: { program, exitCode: result.exitCode ?? null },
  });
};

export interface PipeOptions {
  readonly input: Readable;
  /** Ended when the program has succeeded, destroyed otherwise. */
  readonly output: Writable;
  readonly signal?: AbortSignal;
}

/**
 * Streams `input` through a program into `output`, with no more in memory than the streams' buffers; settles when the
 * program is gone. Throws the streams' own errors, and for the program what `runCommand` throws.
 */
export async function pipeThrough(program: string, arguments_: readonly string[], options: PipeOptions): Promise<void> {
  const { input, output, signal } = options;
  throwIfAborted(signal);
  const { ExecaError, execa } = await loadExeca();
  const child = execa(program, [...arguments_], { env: { LC_ALL: 'C' }, buffer: { stdout: false } });
  // Newer versions of Node let the pipeline fail only when every stream of it is closed, and this one ends with the program.
  const end = (): boolean => child.kill();
  for (const stream of [input, output]) stream.once('error', end);
  try {
    await pipeline(input, child.duplex(), output, signal === undefined ? {} : { signal });
  } catch (error) {
    end();
    await child.catch(() => null);
    if (signal?.aborted === true) throw new VmctlError('ABORTED', 'interrupted', { cause: error });
    if (!(error instanceof ExecaError)) throw error;
    throwIfNotRunnable(program, error);
    const stderr: unknown = error.stderr;
    const words = typeof stderr === 'string' ? stderr.trim() : '';
    throw new VmctlError('COMMAND_FAILED', `${program} failed${words === '' ? '' : `: ${lastLine(words)}`}`, {
      cause: error,
      fields: { program, exitCode: error.exitCode ?? null },
    });
  }
}

/** A program that goes on when vmctl ends. */
export interface DetachedProcess {
  readonly pid: number;
  /** Settles when the program ends while vmctl still runs; says how. */
  readonly ended: Promise<string>;
}

export interface DetachedOptions {
  readonly cwd: string;
  /** Takes the program's stdout and stderr; emptied first. */
  readonly logFile: string;
}

/**
 * Starts a program in its own session, with `LC_ALL=C`, stdin closed and its output in a file, and does not wait for it.
 * Throws `HOST_UNSUPPORTED` when it cannot be run, `STATE_DIRECTORY` when there can be no log file.
 */
export async function startDetached(
  program: string,
  arguments_: readonly string[],
  options: DetachedOptions,
): Promise<DetachedProcess> {
  const log = createWriteStream(options.logFile, { mode: PRIVATE_FILE_MODE });
  try {
    await once(log, 'open');
  } catch (error) {
    throw stateDirectoryError('write', options.logFile, error);
  }
  try {
    const { execa } = await loadExeca();
    const child = execa(program, [...arguments_], {
      cwd: options.cwd,
      env: { LC_ALL: 'C' },
      detached: true,
      cleanup: false,
      stdin: 'ignore',
      stdout: log,
      stderr: log,
      buffer: false,
      reject: false,
    });
    const ended = child.then((result) => {
      if (result.signal !== undefined) return `was ended by ${result.signal}`;
      if (result.exitCode !== undefined) return `exited with code ${result.exitCode}`;
      return result.shortMessage ?? 'it ended before it began';
    });
    if (child.pid === undefined) {
      throw new VmctlError('HOST_UNSUPPORTED', `${program} could not be started: ${await ended}`, {
        hint: `Install ${program} and try again.`,
        fields: { program },
      });
    }
    child.unref();
    return { pid: child.pid, ended };
  } finally {
    log.close();
  }
}

/** A process that learns of this one's end, however that comes. */
export interface Watcher {
  /** Settles when it heeds no signals any more, which it says by a word on its stdout; or when it has ended. */
  whenReady(): Promise<void>;
  /** Lets it go: its input ends now. Settles when it has ended. */
  dismiss(): Promise<void>;
}

/**
 * Starts a Node.js script in its own session whose stdin is a pipe from this process, and so ends when this process
 * does. Neither the script nor the pipe keeps this process alive. Throws `HOST_UNSUPPORTED` when it cannot be started.
 */
export async function startWatcher(script: string, arguments_: readonly string[]): Promise<Watcher> {
  const { execa } = await loadExeca();
  const child = execa(process.execPath, [script, ...arguments_], {
    // Its own folder may be one that is to be removed.
    cwd: '/',
    detached: true,
    cleanup: false,
    stdin: 'pipe',
    stdout: 'pipe',
    stderr: 'ignore',
    buffer: false,
    reject: false,
  });
  if (child.pid === undefined) {
    const { shortMessage } = await child;
    throw new VmctlError('HOST_UNSUPPORTED', `the watchdog could not be started: ${shortMessage}`, {
      fields: { program: process.execPath },
    });
  }
  child.unref();
  const { stdin, stdout } = child;
  // A watcher that was killed is no failure of what it watches.
  for (const stream of [stdin, stdout]) {
    stream.on('error', () => {});
    if (stream instanceof Socket) stream.unref();
  }
  const ready = new Promise<void>((resolve) => stdout.once('data', resolve).once('close', resolve));
  return {
    whenReady: async () => {
      // Something has to keep this process alive while it waits.
      if (stdout instanceof Socket) stdout.ref();
      await ready;
      if (stdout instanceof Socket) stdout.unref();
    },
    dismiss: async () => {
      child.ref();
      stdin.end();
      await child;
    },
  };
}

export interface InteractiveOptions {
  readonly cwd: string;
  readonly signal?: AbortSignal;
  /** Besides the variables of this process. */
  readonly env?: Readonly<Record<string, string>>;
  /** Handed a function that sends the program a signal. */
  readonly onStart?: (send: (signal: NodeJS.Signals) => void) => void;
}

/** Gives a program this terminal until it ends; answers with its exit code (128 + n for signal n). */
export async function runInteractive(
  program: string,
  arguments_: readonly string[],
  options: InteractiveOptions,
): Promise<number> {
  const { cwd, signal, env = {}, onStart } = options;
  const cancel = signal === undefined ? {} : { cancelSignal: signal };
  const { execa } = await loadExeca();
  const child = execa(program, [...arguments_], {
    cwd,
    env,
    ...cancel,
    stdio: 'inherit',
    reject: false,
    // Whoever sends it a signal decides whether another one follows.
    ...(onStart === undefined ? {} : { forceKillAfterDelay: false as const }),
  });
  onStart?.((name) => void child.kill(name));
  const result = await child;
  throwIfNotRunnable(program, result);
  if (result.signal !== undefined) return 128 + constants.signals[result.signal];
  return result.exitCode ?? 255;
}

/** `HOST_UNSUPPORTED` for a program that the system did not find or did not let this user execute. */
function throwIfNotRunnable(
  program: string,
  outcome: { readonly code?: string | undefined; readonly cause?: unknown },
): void {
  if (outcome.code !== 'ENOENT' && outcome.code !== 'EACCES') return;
  const missing = outcome.code === 'ENOENT';
  const problem = missing ? 'is not installed or not in PATH' : 'may not be executed by this user';
  throw new VmctlError('HOST_UNSUPPORTED', `${program} ${problem}`, {
    hint: missing ? `Install ${program} and try again.` : 'Check its permissions, and those of the folders in PATH.',
    cause: outcome.cause,
    fields: { program },
  });
}

function lastLine(text: string): string {
  return text.slice(text.lastIndexOf('\n') + 1);
}

/** More than the lines that a person is shown, and less than what hurts. */
const TAIL_BYTES = 256 * 1024;

/** The last lines of a file that may not be there, such as a log; an empty string when it is not. */
export async function tailOfFile(path: string, lines: number): Promise<string> {
  let bytes: Buffer;
  try {
    bytes = await readLast(path, TAIL_BYTES);
  } catch {
    return '';
  }
  return bytes.toString('utf8').trimEnd().split(/\r?\n/).slice(-lines).join('\n');
}
