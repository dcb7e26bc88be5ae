/** A connection that is logged in: what can be done with it, and how its end reaches everybody who uses it. */
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { VmctlError } from '../errors.js';
import { throwIfAborted, unlessAborted } from '../util/wait.js';
import { type CommandChannel, type ExecOptions, type ExecResult, followCommand } from './exec.js';
import { Liveness } from './liveness.js';
import { place, transportError } from './login-error.js';
import { exportPrefix } from './shell-quote.js';
import type { SshTarget } from './target.js';
import { downloadTree } from './download.js';
import { type EntryKind, type RequestLimits, SftpRequests, type SftpSession, type SftpTarget } from './sftp.js';
import { type TransferOptions, type TransferSummary, lookError } from './transfer.js';
import { uploadTree } from './upload-tree.js';
import { type UploadOptions, uploadFile } from './upload.js';

/** A half-dead connection may never answer a request for a channel; an emulated guest needs seconds to start a session. */
const CHANNEL_TIMEOUT_MS = 30_000;
const GOODBYE_MS = 500;

export interface SshConnection extends AsyncDisposable {
  /**
   * Runs a command by the user's login shell; several at a time if need be. A non-zero exit code is a result, no error.
   * Throws `SSH_TRANSPORT` when the connection breaks off, `TIMEOUT` and `ABORTED` after ending the command.
   */
  exec(command: string, options?: ExecOptions): Promise<ExecResult>;
  /**
   * Copies a local file over SFTP, in place. A relative remote path begins in the user's home directory. Throws
   * `FILE_NOT_FOUND`, `UNSUPPORTED` (a folder; a guest without SFTP), `TRANSFER_FAILED` (the guest refuses),
   * `SSH_TRANSPORT`, `ABORTED`.
   */
  upload(localPath: string, remotePath: string, options?: UploadOptions): Promise<void>;
  /**
   * Copies a file in place, or a folder with all that is in it into the folder of that name, which is made if need be.
   * Permission bits are kept; symbolic links in a folder are kept as they are. Throws as `upload`.
   */
  copyTo(localPath: string, remotePath: string, options?: TransferOptions): Promise<TransferSummary>;
  /** The same out of the guest; a file appears when it is complete. Throws as `upload`. */
  copyFrom(remotePath: string, localPath: string, options?: TransferOptions): Promise<TransferSummary>;
  /**
   * Connects to a TCP port of the guest itself, such as one that listens on its 127.0.0.1 alone. Throws `SSH_TRANSPORT`
   * when nobody listens there, `ABORTED`.
   */
  openTcp(port: number, options?: Pick<ExecOptions, 'signal'>): Promise<Duplex>;
  /** What a path in the guest leads to, symbolic links followed; null where there is nothing. Throws as `upload`. */
  lookAt(remotePath: string, options?: Pick<TransferOptions, 'signal'>): Promise<EntryKind | null>;
  /** Says goodbye; a command that still runs is left to itself. Never throws. */
  close(): Promise<void>;
  /** Settles when the connection is gone, whoever ended it. Never rejects. */
  readonly closed: Promise<void>;
}

type Opened<T> = (error: Error | undefined, channel: T) => void;

type TransferWork<T> = (requests: SftpRequests, onFailure: () => void) => Promise<T>;

interface SftpChannel extends SftpSession {
  on(event: 'error' | 'end' | 'close', listener: () => void): this;
  end(): void;
}

/** The part of an SSH client that a connection needs. */
export interface SshTransport {
  exec(command: string, done: Opened<CommandChannel>): void;
  sftp(done: Opened<SftpChannel>): void;
  requestLimits(channel: SftpChannel): RequestLimits;
  tcp(port: number, done: Opened<Duplex>): void;
  signal(channel: CommandChannel, name: 'TERM' | 'KILL'): void;
  /** Asks for a sign of life, and calls back with any answer. */
  ping(answered: () => void): void;
  onError(listener: (error: Error) => void): void;
  onClose(listener: () => void): void;
  end(): void;
}

/** Relative paths begin in the user's home directory, which the empty path means too. */
function atHome(path: string): string {
  return path === '' ? '.' : path;
}

export class GuestConnection implements SshConnection {
  readonly closed: Promise<void>;
  readonly #transport: SshTransport;
  readonly #socket: Socket;
  readonly #target: SshTarget;
  /** Null where the connection keeps the process alive for as long as it is open. */
  #liveness: Liveness | null = null;
  /** Who must hear of the connection's end because nothing else will tell them. */
  readonly #waiting = new Set<() => void>();
  #sftp: Promise<SftpTarget> | null = null;
  #gone = false;
  /** Why the connection broke off, as far as anybody said. */
  #reason: Error | null = null;

  constructor(transport: SshTransport, socket: Socket, target: SshTarget) {
    this.#transport = transport;
    this.#socket = socket;
    this.#target = target;
    // Without a listener an error would end the process. There may be several, even after the end.
    transport.onError((error) => {
      this.#reason ??= error;
      // A dead peer would never answer a half-close.
      socket.destroy();
    });
    this.closed = new Promise((resolve) => {
      transport.onClose(() => {
        this.#gone = true;
        for (const tell of this.#waiting) tell();
        resolve();
      });
    });
  }

  /** From now on the connection keeps the process alive only while something is under way on it. */
  keepInBackground(): void {
    this.#liveness = new Liveness({
      socket: this.#socket,
      ping: (answered) => this.#transport.ping(answered),
      onDead: () => {
        this.#reason ??= new Error('the guest does not answer any more');
        this.#socket.destroy();
      },
    });
    this.#liveness.rest();
  }

  async exec(command: string, options: ExecOptions = {}): Promise<ExecResult> {
    throwIfAborted(options.signal);
    const text = exportPrefix(options.environment ?? {}) + command;
    return this.#use(() => this.#exec(text, options));
  }

  async openTcp(port: number, options: Pick<ExecOptions, 'signal'> = {}): Promise<Duplex> {
    throwIfAborted(options.signal);
    return this.#use(() =>
      this.#open<Duplex, Duplex>((done) => this.#transport.tcp(port, done), {
        what: `a connection to its port ${port}`,
        signal: options.signal,
        accept: (channel) => channel,
        discard: (late) => late.on('error', () => {}).destroy(),
      }),
    );
  }

  #use<T>(work: () => Promise<T>): Promise<T> {
    return this.#liveness === null ? work() : this.#liveness.during(work);
  }

  #exec(text: string, options: ExecOptions): Promise<ExecResult> {
    return this.#open<CommandChannel, ExecResult>((done) => this.#transport.exec(text, done), {
      what: 'the command',
      signal: options.signal,
      accept: (channel) =>
        followCommand(channel, options, {
          signal: (name) => this.#transport.signal(channel, name),
          brokenOff: () => this.#brokenOff('while a command ran'),
        }),
      discard: (late) => {
        late.on('error', () => {}).resume();
        late.stderr.resume();
        this.#transport.signal(late, 'TERM');
        late.close();
      },
    });
  }

  async upload(localPath: string, remotePath: string, options: UploadOptions = {}): Promise<void> {
    const paths = { local: localPath, remote: atHome(remotePath) };
    await this.#transfer(options.signal, (requests) => uploadFile(requests, paths, options));
  }

  async copyTo(localPath: string, remotePath: string, options: TransferOptions = {}): Promise<TransferSummary> {
    const paths = { local: localPath, remote: atHome(remotePath) };
    return this.#transfer(options.signal, (requests, onFailure) =>
      uploadTree(requests, paths, { ...options, onFailure }),
    );
  }

  async copyFrom(remotePath: string, localPath: string, options: TransferOptions = {}): Promise<TransferSummary> {
    const paths = { remote: atHome(remotePath), local: localPath };
    return this.#transfer(options.signal, (requests, onFailure) =>
      downloadTree(requests, paths, { ...options, onFailure }),
    );
  }

  async lookAt(remotePath: string, options: Pick<TransferOptions, 'signal'> = {}): Promise<EntryKind | null> {
    const path = atHome(remotePath);
    return this.#transfer(options.signal, async (requests) => {
      try {
        return (await requests.stat(path))?.kind ?? null;
      } catch (error) {
        throw lookError(error, requests, path);
      }
    });
  }

  async close(): Promise<void> {
    if (this.#gone) return;
    this.#reason ??= new Error('it was closed here');
    this.#transport.end();
    const timer = setTimeout(() => this.#socket.destroy(), GOODBYE_MS);
    await this.closed;
    clearTimeout(timer);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #transfer<T>(signal: AbortSignal | undefined, work: TransferWork<T>): Promise<T> {
    throwIfAborted(signal);
    return this.#use(() => this.#inSftp(signal, work));
  }

  /** What is under way stops when the signal says so, or when the work calls its second parameter. */
  async #inSftp<T>(signal: AbortSignal | undefined, work: TransferWork<T>): Promise<T> {
    this.#sftp ??= this.#openSftp();
    const target = await (signal === undefined ? this.#sftp : unlessAborted(this.#sftp, signal));
    const failed = new AbortController();
    const stops = signal === undefined ? failed.signal : AbortSignal.any([signal, failed.signal]);
    using requests = new SftpRequests(target, stops);
    return await work(requests, () => failed.abort());
  }

  /** One SFTP session serves all transfers; the next one makes a new one when the guest has ended it. */
  async #openSftp(): Promise<SftpTarget> {
    try {
      const sftp = await this.#open<SftpChannel, SftpChannel>((done) => this.#transport.sftp(done), {
        what: 'SFTP',
        accept: (channel) => channel,
        discard: (late) => late.end(),
      });
      const brokenOff = (): VmctlError => this.#brokenOff('during a transfer');
      const broken = new Promise<never>((_resolve, reject) => {
        const onEnd = (): void => {
          this.#sftp = null;
          reject(brokenOff());
        };
        sftp.on('error', onEnd).on('end', onEnd).on('close', onEnd);
      });
      // Between two transfers nobody waits for it.
      broken.catch(() => {});
      return { sftp, limits: this.#transport.requestLimits(sftp), broken, brokenOff, user: this.#target.user };
    } catch (error) {
      this.#sftp = null;
      throw error;
    }
  }

  #open<T, R>(request: (done: Opened<T>) => void, options: OpenOptions<T, R>): Promise<R> {
    return new Promise<R>((resolve, reject) => {
      let waiting = true;
      const settle = (outcome: () => void): void => {
        waiting = false;
        clearTimeout(timer);
        this.#waiting.delete(onGone);
        options.signal?.removeEventListener('abort', onAbort);
        outcome();
      };
      const fail = (error: VmctlError): void => settle(() => reject(error));
      const onGone = (): void => fail(this.#brokenOff(`before ${options.what} could start`));
      const onAbort = (): void => fail(new VmctlError('ABORTED', 'interrupted', { cause: options.signal?.reason }));
      const timer = setTimeout(() => fail(this.#noAnswer(options.what)), CHANNEL_TIMEOUT_MS);
      this.#waiting.add(onGone);
      options.signal?.addEventListener('abort', onAbort);
      try {
        request((error, channel) => {
          if (error !== undefined) fail(this.#refused(options.what, error));
          else if (waiting) settle(() => resolve(options.accept(channel)));
          else options.discard(channel);
        });
      } catch {
        // ssh2 throws at once when there is no connection any more.
        onGone();
      }
    });
  }

  #brokenOff(when: string): VmctlError {
    const where = place(this.#target.endpoint);
    if (!this.#gone && this.#reason === null) {
      return transportError(`the guest at ${where} ended the SSH channel ${when}`, this.#target);
    }
    const reason = this.#reason === null ? 'the guest closed it' : this.#reason.message;
    const message = `the SSH connection to ${where} broke off ${when}: ${reason}`;
    return transportError(message, this.#target, this.#reason ?? undefined);
  }

  #noAnswer(what: string): VmctlError {
    const message = `the guest at ${place(this.#target.endpoint)} did not start ${what} within ${CHANNEL_TIMEOUT_MS / 1000} s`;
    return transportError(message, this.#target);
  }

  #refused(what: string, error: Error): VmctlError {
    if (this.#gone || this.#socket.destroyed) return this.#brokenOff(`before ${what} could start`);
    if (what !== 'SFTP' || error.message.includes('Channel open failure')) {
      return transportError(
        `the guest at ${place(this.#target.endpoint)} did not start ${what}: ${error.message}`,
        this.#target,
        error,
      );
    }
    return new VmctlError('UNSUPPORTED', `the guest at ${place(this.#target.endpoint)} has no SFTP: ${error.message}`, {
      hint: "Install OpenSSH's sftp-server in the image (openssh-sftp-server on Debian); copying files needs it.",
      cause: error,
    });
  }
}

interface OpenOptions<T, R> {
  /** For messages. */
  readonly what: string;
  /** Called in the very moment of opening: the end of a short command may have come in the same packet. */
  readonly accept: (channel: T) => R | Promise<R>;
  /** What becomes of a channel that opens when nobody waits for it any more. */
  readonly discard: (channel: T) => void;
  readonly signal?: AbortSignal | undefined;
}
