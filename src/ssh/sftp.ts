/** An SFTP session as promises: each request has one answer, and none is waited for in vain. */
import type { Buffer } from 'node:buffer';
import { VmctlError } from '../errors.js';

type Done = (error?: Error | null) => void;
type Answer<T> = (error: Error | undefined, value: T) => void;

/** What ssh2 gives of a file's attributes. */
interface RawStats {
  readonly mode: number;
  readonly size: number;
}

/** The part of ssh2's SFTP session (draft-ietf-secsh-filexfer-02) that copying needs. */
export interface SftpSession {
  open(path: string, flags: 'r' | 'w', mode: number, done: Answer<Buffer>): void;
  // oxlint-disable-next-line max-params -- ssh2's signature
  read(handle: Buffer, into: Buffer, offset: number, length: number, position: number, done: Answer<number>): void;
  // oxlint-disable-next-line max-params -- ssh2's signature
  write(handle: Buffer, bytes: Buffer, offset: number, length: number, position: number, done: Done): void;
  fchmod(handle: Buffer, mode: number, done: Done): void;
  chmod(path: string, mode: number, done: Done): void;
  close(handle: Buffer, done: Done): void;
  stat(path: string, done: Answer<RawStats>): void;
  lstat(path: string, done: Answer<RawStats>): void;
  fstat(handle: Buffer, done: Answer<RawStats>): void;
  mkdir(path: string, attributes: { readonly mode: number }, done: Done): void;
  readdir(path: string, done: Answer<{ readonly filename: string; readonly attrs: RawStats }[]>): void;
  readlink(path: string, done: Answer<string>): void;
  symlink(content: string, path: string, done: Done): void;
  unlink(path: string, done: Done): void;
}

/** What a server takes. */
export interface RequestLimits {
  /** Bytes that one request may read. */
  readonly read: number;
  /** Bytes that one request may write. */
  readonly write: number;
  /** Bytes that may be on their way to it. What is sent beyond that waits on this host until it asks for more. */
  readonly window: number;
}

/** A session that is open, and what becomes of requests when it ends. */
export interface SftpTarget {
  readonly sftp: SftpSession;
  readonly limits: RequestLimits;
  /** Rejects when the session ends before it should: no request is answered after that. */
  readonly broken: Promise<never>;
  /** The error for a request that was not answered. */
  readonly brokenOff: () => VmctlError;
  /** For messages. */
  readonly user: string;
}

/** What a path names; `other` is a socket, a device or a named pipe. */
export type EntryKind = 'file' | 'folder' | 'link' | 'other';

export interface EntryFacts {
  readonly kind: EntryKind;
  /** Permission bits, as 0o644; without setuid, setgid and sticky. */
  readonly mode: number;
  readonly bytes: number;
}

const KINDS: Readonly<Record<number, EntryKind>> = { 0o040000: 'folder', 0o100000: 'file', 0o120000: 'link' };

/** From what `stat` gives, here or in the guest. */
export function entryFacts(stats: RawStats): EntryFacts {
  return { kind: KINDS[stats.mode & 0o170000] ?? 'other', mode: stats.mode & 0o777, bytes: stats.size };
}

/** Status codes of SFTP version 3. "Failure" is all that it says about a full disk or a folder. */
export const SFTP_STATUS = { noSuchFile: 2, permissionDenied: 3, failure: 4 } as const;

/** The server's status code; null when the error is not an answer of the server. */
export function statusOf(error: unknown): number | null {
  return error instanceof Error && 'code' in error && typeof error.code === 'number' ? error.code : null;
}

/**
 * The requests of one transfer. All that are under way, and all later ones, fail as soon as it is cancelled (`ABORTED`) or
 * the session ends; a refusal of the server is an error that `statusOf` knows.
 */
export class SftpRequests implements Disposable {
  readonly user: string;
  readonly limits: RequestLimits;
  readonly brokenOff: () => VmctlError;
  readonly #sftp: SftpSession;
  readonly #over = new AbortController();
  readonly #waiting = new Set<(error: unknown) => void>();
  #failure: { readonly error: unknown } | null = null;

  constructor(target: SftpTarget, signal?: AbortSignal) {
    this.user = target.user;
    this.limits = target.limits;
    this.brokenOff = target.brokenOff;
    this.#sftp = target.sftp;
    const fail = (error: unknown): void => {
      this.#failure ??= { error };
      for (const reject of this.#waiting) reject(error);
      this.#waiting.clear();
    };
    target.broken.catch(fail);
    const onAbort = (): void => fail(new VmctlError('ABORTED', 'interrupted', { cause: signal?.reason }));
    if (signal?.aborted === true) onAbort();
    else signal?.addEventListener('abort', onAbort, { signal: this.#over.signal });
  }

  [Symbol.dispose](): void {
    this.#over.abort();
  }

  open(path: string, flags: 'r' | 'w', mode: number): Promise<Buffer> {
    return this.#ask((done) => this.#sftp.open(path, flags, mode, done));
  }

  /** Gives how many bytes there were; 0 at the end of the file. */
  read(handle: Buffer, into: Buffer, position: number): Promise<number> {
    return this.#ask((done) => this.#sftp.read(handle, into, 0, into.length, position, done));
  }

  write(handle: Buffer, bytes: Buffer, position: number): Promise<void> {
    return this.#tell((done) => this.#sftp.write(handle, bytes, 0, bytes.length, position, done));
  }

  close(handle: Buffer): Promise<void> {
    return this.#tell((done) => this.#sftp.close(handle, done));
  }

  /** Closes what a transfer leaves open that failed or was cancelled; nobody waits for it. */
  abandon(handle: Buffer): void {
    this.#sftp.close(handle, () => {});
  }

  chmod(file: string | Buffer, mode: number): Promise<void> {
    return this.#tell((done) =>
      typeof file === 'string' ? this.#sftp.chmod(file, mode, done) : this.#sftp.fchmod(file, mode, done),
    );
  }

  /** Symbolic links followed; null where there is nothing. */
  stat(path: string): Promise<EntryFacts | null> {
    return this.#look((done) => this.#sftp.stat(path, done));
  }

  /** The link itself, if it is one; null where there is nothing. */
  lstat(path: string): Promise<EntryFacts | null> {
    return this.#look((done) => this.#sftp.lstat(path, done));
  }

  async fstat(handle: Buffer): Promise<EntryFacts> {
    return entryFacts(await this.#ask<RawStats>((done) => this.#sftp.fstat(handle, done)));
  }

  mkdir(path: string, mode: number): Promise<void> {
    return this.#tell((done) => this.#sftp.mkdir(path, { mode }, done));
  }

  /** Everything in a folder but `.` and `..`; links are not followed. */
  async list(path: string): Promise<readonly { readonly name: string; readonly facts: EntryFacts }[]> {
    const entries = await this.#ask<Parameters<Parameters<SftpSession['readdir']>[1]>[1]>((done) =>
      this.#sftp.readdir(path, done),
    );
    return entries.map(({ filename, attrs }) => ({ name: filename, facts: entryFacts(attrs) }));
  }

  readlink(path: string): Promise<string> {
    return this.#ask((done) => this.#sftp.readlink(path, done));
  }

  /** Makes a link; ssh2 knows that OpenSSH and dropbear take the two the other way round than the draft has them. */
  symlink(content: string, path: string): Promise<void> {
    return this.#tell((done) => this.#sftp.symlink(content, path, done));
  }

  unlink(path: string): Promise<void> {
    return this.#tell((done) => this.#sftp.unlink(path, done));
  }

  async #look(send: (done: Answer<RawStats>) => void): Promise<EntryFacts | null> {
    try {
      return entryFacts(await this.#ask(send));
    } catch (error) {
      if (statusOf(error) === SFTP_STATUS.noSuchFile) return null;
      throw error;
    }
  }

  #tell(send: (done: Done) => void): Promise<void> {
    return this.#ask<void>((done) => send((error) => done(error ?? undefined)));
  }

  #ask<T>(send: (done: Answer<T>) => void): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      if (this.#failure !== null) {
        reject(this.#failure.error);
        return;
      }
      this.#waiting.add(reject);
      send((error, value) => {
        this.#waiting.delete(reject);
        if (error === undefined || error === null) resolve(value);
        else reject(error);
      });
    });
  }
}
