/**
 * One local file into the guest over SFTP, as `scp` does it: written in place, so that an existing file keeps its
 * owner, its links and its place, and a destination that is a symbolic link is written through. An upload that is
 * broken off therefore leaves a part of the file; the next one overwrites it.
 */
import { type FileHandle, open } from 'node:fs/promises';
import { posix } from 'node:path';
import { VmctlError } from '../errors.js';
import { errorCode } from '../util/fs.js';
import { throwIfAborted } from '../util/wait.js';

/**
 * Less than the smallest limit that ssh2 assumes of a server (34,000 bytes a packet, 2 KiB of them overhead). It cuts a
 * longer write into pieces and sends each when the one before was answered: slowly, and even after the handle was
 * closed, when the server may have given the handle's number to another file already.
 */
const CHUNK_BYTES = 31 * 1024;
/** About 1 MiB under way. Measured over loopback: half of it or twice as much is slower to dropbear, and no faster to OpenSSH. */
const CONCURRENT_WRITES = 32;

export interface UploadOptions {
  /** Permission bits; those of the local file by default. */
  readonly mode?: number;
  readonly signal?: AbortSignal;
  readonly onProgress?: (bytes: number, totalBytes: number) => void;
}

type Done = (error?: Error | null) => void;

/** The part of an SFTP session (draft-ietf-secsh-filexfer-02) that an upload needs. */
export interface SftpSession {
  open(path: string, flags: 'w', mode: number, done: (error: Error | undefined, handle: Buffer) => void): void;
  // oxlint-disable-next-line max-params -- ssh2's signature
  write(handle: Buffer, bytes: Buffer, offset: number, length: number, position: number, done: Done): void;
  fchmod(handle: Buffer, mode: number, done: Done): void;
  chmod(path: string, mode: number, done: Done): void;
  close(handle: Buffer, done: Done): void;
  stat(path: string, done: (error: Error | undefined, stats: { isDirectory(): boolean }) => void): void;
}

export interface UploadTarget {
  readonly sftp: SftpSession;
  /** Rejects when the session ends before it should: no request is answered after that. */
  readonly broken: Promise<never>;
  /** The error for a request that was not answered. */
  readonly brokenOff: () => VmctlError;
  /** For messages. */
  readonly user: string;
}

/**
 * Throws `FILE_NOT_FOUND` for a local file that cannot be read, `UNSUPPORTED` for a local folder, `PROVISION_FAILED`
 * with the server's words when the guest refuses, `ABORTED` when cancelled.
 */
export async function uploadFile(
  target: UploadTarget,
  paths: { readonly local: string; readonly remote: string },
  options: UploadOptions,
): Promise<void> {
  throwIfAborted(options.signal);
  const file = await openLocal(paths.local);
  const over = new AbortController();
  try {
    const stats = await file.stat();
    if (!stats.isFile()) throw notAFile(paths.local);
    const mode = options.mode ?? stats.mode & 0o777;
    const cancelled = cancellation(options.signal, over.signal);
    const request: Request = (send) => Promise.race([answer(send), target.broken, cancelled]);
    const handle = await openRemote(target.sftp, request, { path: paths.remote, mode });
    try {
      // Opening sets the mode of a new file only, and only as far as the umask lets it.
      await request((done) => target.sftp.fchmod(handle, mode, done));
      await copy(file, stats.size, {
        path: paths.local,
        write: (bytes, at) => request((done) => target.sftp.write(handle, bytes, 0, bytes.length, at, done)),
        ...(options.onProgress === undefined ? {} : { onProgress: options.onProgress }),
      });
    } catch (error) {
      target.sftp.close(handle, () => {});
      throw error;
    }
    await request((done) => target.sftp.close(handle, done));
  } catch (error) {
    throw await uploadError(error, target, paths);
  } finally {
    over.abort();
    await file.close();
  }
}

/** Sends an SFTP request and gives its answer; throws when it fails, is cancelled, or cannot be answered any more. */
type Request = <T>(send: (done: (error?: Error | null, value?: T) => void) => void) => Promise<T | undefined>;

async function openRemote(
  sftp: SftpSession,
  request: Request,
  file: { readonly path: string; readonly mode: number },
): Promise<Buffer> {
  const attempt = (): Promise<Buffer | undefined> =>
    request<Buffer>((done) => sftp.open(file.path, 'w', file.mode, done));
  let handle: Buffer | undefined;
  try {
    handle = await attempt();
  } catch (error) {
    if (statusOf(error) !== PERMISSION_DENIED) throw error;
    // An earlier upload of a read-only file left one that only its mode protects.
    try {
      await request((done) => sftp.chmod(file.path, file.mode | 0o200, done));
    } catch {
      throw error;
    }
    handle = await attempt();
  }
  if (handle === undefined) throw new Error('the server gave no handle');
  return handle;
}

interface Copy {
  readonly path: string;
  readonly write: (bytes: Buffer, at: number) => Promise<unknown>;
  readonly onProgress?: (bytes: number, totalBytes: number) => void;
}

/**
 * Keeps several writes under way, so that the time for an answer is not waited for once a chunk. Once it has failed
 * nothing more is sent: the caller may close the handle.
 */
async function copy(file: FileHandle, size: number, options: Copy): Promise<void> {
  let next = 0;
  let written = 0;
  let failure: { readonly error: unknown } | null = null;
  const worker = async (): Promise<void> => {
    while (failure === null && next < size) {
      const at = next;
      const bytes = Buffer.allocUnsafe(Math.min(CHUNK_BYTES, size - at));
      next += bytes.length;
      try {
        await readWhole(file, bytes, { at, path: options.path });
        // Another chunk may have failed in the meantime.
        if (failure !== null) return;
        await options.write(bytes, at);
        written += bytes.length;
        options.onProgress?.(written, size);
      } catch (error) {
        failure ??= { error };
      }
    }
  };
  await Promise.all(Array.from({ length: CONCURRENT_WRITES }, worker));
  // What TypeScript cannot see: the workers set it.
  const failed = failure as { readonly error: unknown } | null;
  if (failed !== null) throw failed.error;
}

async function readWhole(file: FileHandle, bytes: Buffer, from: { at: number; path: string }): Promise<void> {
  for (let filled = 0; filled < bytes.length; ) {
    const { bytesRead } = await file.read(bytes, filled, bytes.length - filled, from.at + filled);
    if (bytesRead === 0) {
      throw new VmctlError('FILE_NOT_FOUND', `${from.path} became shorter while it was uploaded`);
    }
    filled += bytesRead;
  }
}

function answer<T>(send: (done: (error?: Error | null, value?: T) => void) => void): Promise<T | undefined> {
  return new Promise((resolve, reject) => {
    send((error, value) => {
      if (error === undefined || error === null) resolve(value);
      else reject(error);
    });
  });
}

function cancellation(signal: AbortSignal | undefined, over: AbortSignal): Promise<never> {
  const promise = new Promise<never>((_resolve, reject) => {
    const onAbort = (): void => reject(new VmctlError('ABORTED', 'interrupted', { cause: signal?.reason }));
    signal?.addEventListener('abort', onAbort, { signal: over });
  });
  // Nobody may be waiting for it at the moment when it happens.
  promise.catch(() => {});
  return promise;
}

async function openLocal(path: string): Promise<FileHandle> {
  try {
    return await open(path, 'r');
  } catch (error) {
    const words = error instanceof Error ? error.message : String(error);
    const reason = errorCode(error) === 'ENOENT' ? 'it does not exist' : words;
    throw new VmctlError('FILE_NOT_FOUND', `cannot upload ${path}: ${reason}`, { cause: error, fields: { path } });
  }
}

function notAFile(path: string): VmctlError {
  return new VmctlError('UNSUPPORTED', `cannot upload ${path}: it is not a regular file`, {
    hint: 'Name a file; pack a folder into an archive and unpack it in a shell step.',
    fields: { path },
  });
}

/** Status codes of SFTP version 3. "Failure" is all that it says about a full disk or a folder. */
const NO_SUCH_FILE = 2;
const PERMISSION_DENIED = 3;
const FAILURE = 4;

async function uploadError(
  error: unknown,
  target: UploadTarget,
  paths: { readonly local: string; readonly remote: string },
): Promise<VmctlError> {
  if (error instanceof VmctlError) return error;
  const words = error instanceof Error ? error.message : String(error);
  const status = statusOf(error);
  if (status === null) return target.brokenOff();
  const failed = (what: string, hint?: string): VmctlError =>
    new VmctlError('PROVISION_FAILED', `cannot upload ${paths.local} to ${paths.remote}: ${what}`, {
      cause: error,
      ...(hint === undefined ? {} : { hint }),
      fields: { source: paths.local, destination: paths.remote },
    });
  if (status === NO_SUCH_FILE) {
    const folder = posix.dirname(paths.remote);
    return failed(`${words} (the folder ${folder} does not exist in the guest)`, `Create ${folder} in a shell step.`);
  }
  if (status === PERMISSION_DENIED) {
    return failed(words, `Files arrive as user "${target.user}": upload to /tmp, then move with sudo in a shell step.`);
  }
  if (await isRemoteFolder(target, paths.remote)) {
    const file = posix.join(paths.remote, posix.basename(paths.local));
    return failed('the destination is a folder', `Name the file: ${file}`);
  }
  return failed(words, status === FAILURE ? 'The guest may have no space left, or be running that file.' : undefined);
}

/** The server's status code; null when the error is not an answer of the server. */
function statusOf(error: unknown): number | null {
  return error instanceof Error && 'code' in error && typeof error.code === 'number' ? error.code : null;
}

async function isRemoteFolder(target: UploadTarget, path: string): Promise<boolean> {
  try {
    const stats = await Promise.race([
      answer<{ isDirectory(): boolean }>((done) => target.sftp.stat(path, done)),
      target.broken,
    ]);
    return stats?.isDirectory() === true;
  } catch {
    return false;
  }
}
