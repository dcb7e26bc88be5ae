/** A command in the guest, from the moment its channel is open to its end. */
import type { Duplex, Readable, Writable } from 'node:stream';
import { VmctlError } from '../errors.js';

/** How long a command that is told to end may take to do so, before it is killed. */
const GRACE_MS = 500;
/** How long its end is waited for after that, before its channel is closed from this side. */
const KILL_GRACE_MS = 1_000;

export interface ExecOptions {
  /** What the command reads; nothing (end of file at once) by default. */
  readonly stdin?: string | Uint8Array | Readable;
  /** The bytes as they come; what nobody wants is thrown away. */
  readonly onStdout?: (chunk: Buffer) => void;
  readonly onStderr?: (chunk: Buffer) => void;
  /** Take the bytes no faster than they are read; ended with the command's output. */
  readonly stdout?: Writable;
  readonly stderr?: Writable;
  /** Set by an `export` before the command, because sshd takes few variables by itself (`AcceptEnv`). */
  readonly environment?: Readonly<Record<string, string>>;
  /** Milliseconds from now; none by default. */
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
}

export interface ExecResult {
  /** Null when a signal ended the command. */
  readonly exitCode: number | null;
  /** Such as `SIGTERM`; null when the command ended by itself. */
  readonly signal: string | null;
}

/** The side of an SSH channel that runs a command. */
export interface CommandChannel extends Duplex {
  readonly stderr: Readable;
  close(): void;
}

/** The connection that a command runs on. */
export interface CommandHost {
  /** Sends the command a signal, named without `SIG` (RFC 4254 6.9). */
  readonly signal: (name: 'TERM' | 'KILL') => void;
  /** The error for a channel that ended when nobody had said how the command did. */
  readonly brokenOff: () => VmctlError;
}

/**
 * Feeds the command, tells its output, and gives how it ended.
 *
 * Throws `ABORTED` and `TIMEOUT` after ending the command: SIGTERM, half a second later SIGKILL, a second later
 * the channel is closed. These signals do not reach everything: OpenSSH sends them to the process group, but not for root, and not to
 * processes of another user, such as one under sudo; dropbear sends them to the shell alone. What is not reached goes on
 * without its input and output. Throws what `brokenOff` makes when the channel ends and nobody said how the command did.
 */
export function followCommand(channel: CommandChannel, options: ExecOptions, host: CommandHost): Promise<ExecResult> {
  return new Promise((resolve, reject) => {
    let result: ExecResult | null = null;
    let failure: VmctlError | null = null;
    let grace: NodeJS.Timeout | undefined;

    const settle = (): void => {
      clearTimeout(timer);
      clearTimeout(grace);
      options.signal?.removeEventListener('abort', onAbort);
      if (isReadable(options.stdin)) options.stdin.unpipe(channel);
      if (failure !== null) reject(failure);
      else if (result !== null) resolve(result);
      else reject(host.brokenOff());
    };
    const stop = (error: VmctlError): void => {
      if (failure !== null) return;
      failure = error;
      host.signal('TERM');
      grace = setTimeout(() => {
        host.signal('KILL');
        // Closing at once, with the process still there, makes dropbear 2022.83 close the next channel as well.
        grace = setTimeout(() => {
          channel.close();
          settle();
        }, KILL_GRACE_MS);
      }, GRACE_MS);
    };
    const onAbort = (): void => stop(new VmctlError('ABORTED', 'interrupted', { cause: options.signal?.reason }));
    const timer =
      options.timeoutMs === undefined ? undefined : setTimeout(() => stop(late(options)), options.timeoutMs);

    channel.on('exit', (code: number | null, signal?: string) => {
      result = { exitCode: code, signal: signal ?? null };
    });
    channel.on('close', settle);
    // Writing to a command that has ended is no failure: how it ended says more.
    channel.on('error', () => {});
    take(channel, options.stdout, options.onStdout);
    take(channel.stderr, options.stderr, options.onStderr);
    feed(channel, options.stdin, stop);
    if (options.signal?.aborted === true) onAbort();
    else options.signal?.addEventListener('abort', onAbort);
  });
}

/** Output has to be read by somebody: the channel's end comes after it. */
function take(from: Readable, to: Writable | undefined, onChunk: ((chunk: Buffer) => void) | undefined): void {
  if (to !== undefined) {
    // A reader who has gone away does not hold the command up.
    to.once('close', () => from.unpipe(to).resume());
    from.pipe(to);
  }
  if (onChunk !== undefined || to === undefined) from.on('data', onChunk ?? (() => {}));
}

function feed(channel: CommandChannel, stdin: ExecOptions['stdin'], stop: (error: VmctlError) => void): void {
  if (!isReadable(stdin)) {
    channel.end(stdin);
    return;
  }
  stdin.once('error', (error) => {
    stop(new VmctlError('SSH_TRANSPORT', `the command's input broke off: ${error.message}`, { cause: error }));
  });
  stdin.pipe(channel);
}

function isReadable(stdin: ExecOptions['stdin']): stdin is Readable {
  return stdin !== undefined && typeof stdin !== 'string' && !(stdin instanceof Uint8Array);
}

function late(options: ExecOptions): VmctlError {
  return new VmctlError('TIMEOUT', `the command did not end within ${(options.timeoutMs ?? 0) / 1000} s`, {
    fields: { timeoutMs: options.timeoutMs ?? 0 },
  });
}
