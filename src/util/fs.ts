/** Files that are there completely or not at all. */
import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { mkdir, open, readdir, rename, rm, stat, unlink } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { types } from 'node:util';
import { type ErrorCode, REFUSAL_HINTS, VmctlError } from '../errors.js';
import { DIRECTORY_MODE, PRIVATE_FILE_MODE } from '../paths.js';

/** True when the error is Node's for a file that does not exist. */
export function isMissing(error: unknown): boolean {
  return errorCode(error) === 'ENOENT' || errorCode(error) === 'ENOTDIR';
}

/** Node's code of a system error, such as `EEXIST`; null for any other error. */
export function errorCode(error: unknown): string | null {
  // In a context of node:vm, as test runners make them, Node's own errors are not `instanceof Error`.
  if (!types.isNativeError(error) || !('code' in error)) return null;
  return typeof error.code === 'string' ? error.code : null;
}

/** Makes a directory of the state directory, readable by its owner alone. */
export async function makeDirectory(path: string): Promise<void> {
  try {
    await makeWay(path);
  } catch (error) {
    throw stateDirectoryError('create', path, error);
  }
}

/** One after the other: on a full disk, Node's own way to make a whole path says that a directory is missing. */
async function makeWay(path: string): Promise<void> {
  try {
    await mkdir(path, { mode: DIRECTORY_MODE });
  } catch (error) {
    if (errorCode(error) === 'EEXIST' && (await stat(path)).isDirectory()) return;
    if (errorCode(error) !== 'ENOENT' || dirname(path) === path) throw error;
    await makeWay(dirname(path));
    await makeWay(path);
  }
}

/**
 * Replaces a file by writing beside it, syncing and renaming: a reader sees the old text or the new one. Where `durable`
 * is false it is not synced, and may be empty after a power cut.
 */
export async function writeFileAtomically(
  path: string,
  content: string | Uint8Array,
  { durable = true }: { readonly durable?: boolean } = {},
): Promise<void> {
  const temporary = `${path}.${process.pid}-${randomBytes(4).toString('hex')}.tmp`;
  try {
    const file = await open(temporary, 'wx', PRIVATE_FILE_MODE);
    try {
      await file.writeFile(content);
      if (durable) await file.sync();
    } finally {
      await file.close();
    }
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true }).catch(() => {});
    throw stateDirectoryError('write', path, error);
  }
}

/** Makes the contents of a folder's files last through a power cut. Throws `STATE_DIRECTORY`. */
export async function syncFiles(folder: string): Promise<void> {
  const entries = await readdir(folder, { withFileTypes: true });
  await Promise.all(entries.filter((entry) => entry.isFile()).map(({ name }) => syncFile(join(folder, name))));
}

async function syncFile(path: string): Promise<void> {
  try {
    const file = await open(path, 'r');
    try {
      await file.sync();
    } finally {
      await file.close();
    }
  } catch (error) {
    throw stateDirectoryError('write', path, error);
  }
}

/** Removes a file, if it is there. Node's `rm` looks twice at what it removes, once of that while everything else waits. */
export async function removeFile(path: string): Promise<void> {
  try {
    await unlink(path);
  } catch (error) {
    if (!isMissing(error)) throw error;
  }
}

/**
 * The text of a small file of the state directory, or null when there is none. Read at once: for another thread it would
 * wait behind every sync that is under way, and handing it over takes longer than reading it.
 */
export async function readTextIfPresent(path: string): Promise<string | null> {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    if (isMissing(error)) return null;
    throw stateDirectoryError('read', path, error);
  }
}

/** The names in a folder; none where there is no such folder. */
export async function namesIn(folder: string): Promise<readonly string[]> {
  try {
    return await readdir(folder);
  } catch (error) {
    if (isMissing(error)) return [];
    throw error;
  }
}

export async function exists(path: string): Promise<boolean> {
  try {
    await stat(path);
    return true;
  } catch (error) {
    if (isMissing(error)) return false;
    throw error;
  }
}

/** The errors that carry the words of a program of this host; those of a guest are about the guest's own disk. */
const WORDS_OF_PROGRAMS: readonly ErrorCode[] = ['COMMAND_FAILED', 'QEMU_START', 'QMP'];

/** True where a file could not be written because there is no space left for it, by vmctl or by a program that it ran. */
export function isFull(error: unknown): boolean {
  const cause = error instanceof VmctlError ? error.cause : error;
  if (['ENOSPC', 'EDQUOT'].includes(errorCode(cause) ?? '')) return true;
  if (!(error instanceof VmctlError) || !WORDS_OF_PROGRAMS.includes(error.code)) return false;
  return error.message.includes('No space left on device');
}

/** `STATE_DIRECTORY` for a system error, with the next step where there is one: `cannot write /path: …`. */
export function stateDirectoryError(
  verb: 'create' | 'read' | 'write' | 'lock',
  path: string,
  error: unknown,
): VmctlError {
  const code = errorCode(error);
  const hint = code === null ? undefined : REFUSAL_HINTS[code];
  const words = error instanceof Error ? error.message : String(error);
  return new VmctlError('STATE_DIRECTORY', `cannot ${verb} ${path}: ${words}`, {
    cause: error,
    ...(hint === undefined ? {} : { hint }),
    fields: { path },
  });
}
