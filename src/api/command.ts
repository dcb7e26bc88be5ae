/** Commands in a guest: how they are put into words for its shell, run, and told. */
import { PassThrough } from 'node:stream';
import { VmctlError, toVmctlError } from '../errors.js';
import { LineSplitter } from '../ssh/line-splitter.js';
import { exportPrefix, shellQuote } from '../ssh/shell-quote.js';
import { milliseconds } from './duration.js';
import { ExecError, type ExecResult } from './errors.js';
import type { Machine } from './machine.js';
import type { ExecOptions, GuestProcess } from './vm-types.js';

type Command = string | readonly string[];

/** The line that the login shell of `login` reads. Throws `USAGE`. */
export function commandLine(command: Command, options: ExecOptions, login: string): string {
  const { env = {}, cwd, user } = options;
  const program = typeof command === 'string' ? command : command.map(shellQuote).join(' ');
  if (program.trim() === '') throw new VmctlError('USAGE', 'the command is empty', { hint: 'Give a program to run.' });
  const folder = cwd === undefined ? '' : `cd -- ${shellQuote(cwd)} || exit 1; `;
  const whole = `${exportPrefix(env)}${folder}${program}`;
  // Variables are set behind sudo, which passes none on by itself (sudoers(5), env_reset).
  return user === undefined || user === login
    ? whole
    : `sudo -n -H -u ${shellQuote(user)} -- sh -c ${shellQuote(whole)}`;
}

/** What a command is told to do with its output, and how it ended. */
interface Outputs {
  readonly onStdout?: (chunk: Buffer) => void;
  readonly onStderr?: (chunk: Buffer) => void;
  readonly stdout?: PassThrough;
  readonly stderr?: PassThrough;
  /** What it has printed, as far as somebody keeps it. */
  readonly kept: () => { readonly stdout: string; readonly stderr: string };
}

async function run(machine: Machine, command: Command, options: ExecOptions, outputs: Outputs): Promise<ExecResult> {
  const { timeout, signal, stdin, check = true } = options;
  const begun = performance.now();
  const { kept, ...streams } = outputs;
  const resultOf = (exitCode: number | null, ended: string | null): ExecResult => ({
    exitCode,
    signal: ended,
    ...kept(),
    durationMs: Math.round(performance.now() - begun),
  });
  const fail = (
    code: 'EXEC_FAILED' | 'TIMEOUT' | 'ABORTED',
    result: ExecResult,
    rest: { how: string; cause?: unknown },
  ) =>
    new ExecError(code, `VM "${machine.name}": ${shown(command)} ${rest.how}`, { result, vm: machine.name, ...rest });
  try {
    const connection = await machine.connection(signal);
    const line = commandLine(command, options, machine.login?.user ?? '');
    const { exitCode, signal: endedBy } = await connection.exec(line, {
      ...streams,
      ...(stdin === undefined ? {} : { stdin }),
      ...(timeout === undefined ? {} : { timeoutMs: milliseconds(timeout, 'timeout') }),
      ...(signal === undefined ? {} : { signal }),
    });
    const result = resultOf(exitCode, endedBy);
    if (!check || exitCode === 0) return result;
    throw fail('EXEC_FAILED', result, {
      how: exitCode === null ? `was ended by ${endedBy}` : `exited with code ${exitCode}`,
    });
  } catch (thrown) {
    const error = toVmctlError(thrown);
    if (error instanceof ExecError || (error.code !== 'TIMEOUT' && error.code !== 'ABORTED')) throw error;
    const how = error.code === 'TIMEOUT' ? `did not end within ${timeoutText(timeout)}` : 'was interrupted';
    throw fail(error.code, resultOf(null, null), { how, cause: error });
  }
}

function timeoutText(timeout: ExecOptions['timeout']): string {
  return typeof timeout === 'string' ? timeout : `${timeout} ms`;
}

function shown(command: Command): string {
  const text = typeof command === 'string' ? command.trim() : command.join(' ');
  const [first = ''] = text.split('\n');
  return `"${first.length > 60 ? `${first.slice(0, 59)}…` : first}"`;
}

export async function exec(machine: Machine, command: Command, options: ExecOptions = {}): Promise<ExecResult> {
  const chunks: Record<'stdout' | 'stderr', Buffer[]> = { stdout: [], stderr: [] };
  return run(machine, command, options, {
    onStdout: (chunk) => {
      chunks.stdout.push(chunk);
      options.onStdout?.(chunk);
    },
    onStderr: (chunk) => {
      chunks.stderr.push(chunk);
      options.onStderr?.(chunk);
    },
    kept: () => ({
      stdout: Buffer.concat(chunks.stdout).toString('utf8'),
      stderr: Buffer.concat(chunks.stderr).toString('utf8'),
    }),
  });
}

export function spawn(machine: Machine, command: Command, options: ExecOptions = {}): GuestProcess {
  const stop = new AbortController();
  const signal = options.signal === undefined ? stop.signal : AbortSignal.any([options.signal, stop.signal]);
  const stdout = new PassThrough();
  const stderr = new PassThrough();
  const nothing = { stdout: '', stderr: '' };
  const ended = run(machine, command, { ...options, signal }, { stdout, stderr, kept: () => nothing });
  const result = ended.then(({ exitCode, signal: endedBy, durationMs }) => ({ exitCode, signal: endedBy, durationMs }));
  // A command that is only iterated over, or left to itself, fails there or not at all.
  result
    .catch(() => {})
    .finally(() => {
      stdout.end();
      stderr.end();
    });
  return {
    stdout,
    stderr,
    result,
    kill: () => stop.abort(),
    [Symbol.asyncIterator]: () => lines([stdout, stderr], result),
  };
}

/** Throws at the end what `result` rejects with. */
async function* lines(streams: readonly PassThrough[], result: Promise<unknown>): AsyncGenerator<string, void> {
  const ready: string[] = [];
  let wake = (): void => {};
  for (const stream of streams) {
    const splitter = new LineSplitter((line) => void ready.push(line));
    stream.on('data', (chunk: Buffer) => {
      splitter.push(chunk);
      if (ready.length > 0) stream.pause();
      wake();
    });
    stream.once('close', () => {
      splitter.end();
      wake();
    });
  }
  try {
    for (;;) {
      yield* ready.splice(0);
      for (const stream of streams) stream.resume();
      if (ready.length > 0) continue;
      if (streams.every((stream) => stream.closed)) break;
      await new Promise<void>((resolve) => {
        wake = resolve;
      });
    }
  } finally {
    for (const stream of streams) stream.destroy();
  }
  await result;
}
