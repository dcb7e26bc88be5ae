/**
 * One local file into the guest over SFTP, as `scp` does it: written in place, so that an existing file keeps its
 * owner, its links and its place, and a destination that is a symbolic link is written through. An upload that is
 * broken off therefore leaves a part of the file; the next one overwrites it.
 */
import type { Buffer } from 'node:buffer';
import { type FileHandle, open } from 'node:fs/promises';
import { VmctlError } from '../errors.js';
import { errorCode } from '../util/fs.js';
import { inChunks } from './chunks.js';
import { SFTP_STATUS, type SftpRequests, entryFacts, statusOf } from './sftp.js';
import { type TransferPaths, guestError } from './transfer.js';

export interface FileUpload {
  /** Permission bits; those of the local file by default. */
  readonly mode?: number;
  readonly onProgress?: (bytes: number, totalBytes: number) => void;
}

export interface UploadOptions extends FileUpload {
  readonly signal?: AbortSignal;
}

/**
 * Gives the file's length. Throws `FILE_NOT_FOUND` for a local file that cannot be read, `UNSUPPORTED` for anything but a
 * file, `TRANSFER_FAILED` with the server's words when the guest refuses, `ABORTED` when cancelled.
 */
export async function uploadFile(
  requests: SftpRequests,
  paths: { readonly local: string; readonly remote: string },
  options: FileUpload,
): Promise<number> {
  const file = await openLocal(paths.local);
  try {
    const { kind, bytes, mode } = entryFacts(await file.stat());
    if (kind !== 'file') throw notAFile(paths.local);
    await write(requests, file, { ...paths, bytes, mode: options.mode ?? mode, onProgress: options.onProgress });
    return bytes;
  } catch (error) {
    if (!(error instanceof VmctlError) && errorCode(error) !== null) throw unreadable(paths.local, error);
    const route: TransferPaths = { verb: 'upload', from: paths.local, to: paths.remote };
    throw await guestError(error, requests, route);
  } finally {
    await file.close();
  }
}

interface Write {
  readonly local: string;
  readonly remote: string;
  readonly bytes: number;
  readonly mode: number;
  readonly onProgress: ((bytes: number, totalBytes: number) => void) | undefined;
}

async function write(requests: SftpRequests, file: FileHandle, to: Write): Promise<void> {
  const handle = await openRemote(requests, { path: to.remote, mode: to.mode });
  try {
    // Opening sets the mode of a new file only, and only as far as the umask lets it.
    await requests.chmod(handle, to.mode);
    let written = 0;
    const { write: limit, window } = requests.limits;
    await inChunks({ bytes: to.bytes, limit, window }, async (position, chunk, stopped) => {
      await readWhole(file, chunk, { position, path: to.local });
      // Another chunk may have failed in the meantime.
      if (stopped()) return;
      await requests.write(handle, chunk, position);
      written += chunk.length;
      to.onProgress?.(written, to.bytes);
    });
  } catch (error) {
    requests.abandon(handle);
    throw error;
  }
  await requests.close(handle);
}

async function openRemote(
  requests: SftpRequests,
  file: { readonly path: string; readonly mode: number },
): Promise<Buffer> {
  try {
    return await requests.open(file.path, 'w', file.mode);
  } catch (error) {
    if (statusOf(error) !== SFTP_STATUS.permissionDenied) throw error;
    // An earlier upload of a read-only file left one that only its mode protects.
    try {
      await requests.chmod(file.path, file.mode | 0o200);
    } catch {
      throw error;
    }
    return await requests.open(file.path, 'w', file.mode);
  }
}

async function readWhole(file: FileHandle, bytes: Buffer, from: { position: number; path: string }): Promise<void> {
  for (let filled = 0; filled < bytes.length; ) {
    const { bytesRead } = await file.read(bytes, filled, bytes.length - filled, from.position + filled);
    if (bytesRead === 0) {
      throw new VmctlError('FILE_NOT_FOUND', `${from.path} became shorter while it was uploaded`);
    }
    filled += bytesRead;
  }
}

async function openLocal(path: string): Promise<FileHandle> {
  try {
    return await open(path, 'r');
  } catch (error) {
    throw unreadable(path, error);
  }
}

/** `FILE_NOT_FOUND` for a local path that cannot be uploaded because of the system's error. */
export function unreadable(path: string, error: unknown): VmctlError {
  const words = error instanceof Error ? error.message : String(error);
  const reason = errorCode(error) === 'ENOENT' ? 'it does not exist' : words;
  return new VmctlError('FILE_NOT_FOUND', `cannot upload ${path}: ${reason}`, { cause: error, fields: { path } });
}

function notAFile(path: string): VmctlError {
  return new VmctlError('UNSUPPORTED', `cannot upload ${path}: it is not a regular file`, {
    hint: 'Name a file.',
    fields: { path },
  });
}
