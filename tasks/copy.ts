/** Copying between this host and a VM that runs, by the rules of `cp -r`. */
import { stat } from 'node:fs/promises';
import { resolve } from 'node:path';
import { VmctlError } from '../src/errors.js';
import type { EntryKind, SshConnection, TransferOptions, TransferSummary } from '../src/ssh/client.js';
import { homePath } from '../src/ssh/home-path.js';
import { isMissing } from '../src/util/fs.js';
import { copyDestination, parentOf } from './copy-destination.js';

export interface CopyRequest {
  /** `in` is into the guest. */
  readonly direction: 'in' | 'out';
  /** The VM's name. */
  readonly name: string;
  /** As written; relative to `cwd`. */
  readonly local: string;
  /** As written; relative to the home directory of the user, which the empty path means too. */
  readonly remote: string;
}

export interface Copied extends TransferSummary {
  /** Where the copy is now. */
  readonly destination: string;
}

/**
 * Copies a file, or a folder with all that is in it. Throws `TRANSFER_FAILED` where one side refuses, and what the
 * connection throws.
 */
export async function copyBetween(
  connection: SshConnection,
  request: CopyRequest & { readonly cwd: string },
  options: TransferOptions,
): Promise<Copied> {
  const { name, cwd } = request;
  const remotePath = homePath(request.remote);
  const guest: Side = {
    path: remotePath,
    shown: `${name}:${request.remote}`,
    look: (path) => connection.lookAt(path, options),
  };
  const host: Side = {
    path: request.local,
    shown: request.local,
    look: (path) => lookLocal(resolve(cwd, path)),
  };
  if (request.direction === 'in') {
    const to = await destinationOf(host, guest);
    const summary = await connection.copyTo(resolve(cwd, host.path), to, options);
    return { ...summary, destination: `${name}:${to}` };
  }
  const to = resolve(cwd, await destinationOf(guest, host));
  return { ...(await connection.copyFrom(guest.path, to, options)), destination: to };
}

interface Side {
  readonly path: string;
  readonly shown: string;
  /** What a path leads to there; null where there is nothing. */
  readonly look: (path: string) => Promise<EntryKind | null>;
}

async function destinationOf(source: Side, destination: Side): Promise<string> {
  const kind = await source.look(source.path);
  if (kind !== 'file' && kind !== 'folder') {
    const why = kind === null ? 'does not exist' : 'is neither a file nor a folder';
    throw new VmctlError('TRANSFER_FAILED', `cannot copy ${source.shown}: it ${why}`, {
      fields: { source: source.shown },
    });
  }
  const there = await destination.look(destination.path);
  const parent = there === null ? await destination.look(parentOf(destination.path)) : null;
  return copyDestination({
    source: { path: source.path, kind, shown: source.shown },
    destination: { path: destination.path, kind: there, parent, shown: destination.shown },
  });
}

async function lookLocal(path: string): Promise<EntryKind | null> {
  try {
    const found = await stat(path);
    if (found.isDirectory()) return 'folder';
    return found.isFile() ? 'file' : 'other';
  } catch (error) {
    if (isMissing(error)) return null;
    const words = error instanceof Error ? error.message : String(error);
    throw new VmctlError('TRANSFER_FAILED', `cannot look at ${path}: ${words}`, { cause: error, fields: { path } });
  }
}
