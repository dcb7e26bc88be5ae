/**
 * Files of the guest to this host. A file is written beside its place and renamed when it is complete, so that a
 * download that is broken off changes nothing there.
 */
import type { Buffer } from 'node:buffer';
import { type FileHandle, chmod, lstat, mkdir, open, stat, symlink } from 'node:fs/promises';
import { dirname } from 'node:path';
import { VmctlError } from '../errors.js';
import { errorCode } from '../util/fs.js';
import { inChunks, readToEnd, writeWhole } from './chunks.js';
import { removeParts, replace } from './part-file.js';
import { type SftpRequests, entryFacts } from './sftp.js';
import { type TransferOptions, type TransferPaths, type TransferSummary, guestError, refused } from './transfer.js';
import { copyTree, opensFolder, type TreeSink } from './tree-copy.js';
import { type TreeFolder, below, guestTree, scanTree } from './tree.js';

/**
 * The remote path becomes exactly the local one: a file replaces the one that is there, a folder is made if it is not
 * there and gets everything that is in the remote one; other things in it stay. A link as the remote path is followed,
 * links in a folder are kept. Throws `TRANSFER_FAILED` where one side refuses, `ABORTED` when cancelled.
 */
export async function downloadTree(
  requests: SftpRequests,
  paths: { readonly remote: string; readonly local: string },
  options: Omit<TransferOptions, 'signal'> & { readonly onFailure: () => void },
): Promise<TransferSummary> {
  const route: TransferPaths = { verb: 'download', from: paths.remote, to: paths.local };
  return explained(requests, route, async () => {
    const source = await requests.stat(paths.remote);
    if (source === null) throw refused(route, 'it does not exist in the guest');
    if (source.kind === 'file') {
      await removeParts(dirname(paths.local));
      const bytes = await downloadFile(requests, route, options.onProgress);
      return { files: 1, folders: 0, links: 0, bytes };
    }
    // Opening a named pipe or a device could wait for ever.
    if (source.kind !== 'folder') throw refused(route, 'it is neither a file nor a folder');
    const tree = await scanTree(guestTree(requests), paths.remote, source.mode);
    for (const path of tree.others) options.onSkipped?.(below(paths.remote, path));
    return copyTree(tree, localSink(requests, paths), options);
  });
}

/** System errors of this host are told as they are; what the guest says is explained. */
async function explained<T>(requests: SftpRequests, route: TransferPaths, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof VmctlError || errorCode(error) === null) throw await guestError(error, requests, route);
    throw refused(route, localWords(error), { cause: error });
  }
}

function localWords(error: unknown): string {
  const code = errorCode(error);
  if (code === 'EISDIR' || code === 'ENOTEMPTY') return 'the destination is a folder';
  if (code === 'ENOTDIR') return 'the folder of the destination is not a folder';
  return error instanceof Error ? error.message : String(error);
}

function localSink(requests: SftpRequests, root: { readonly remote: string; readonly local: string }): TreeSink {
  const routeOf = ({ path }: { readonly path: string }): TransferPaths => ({
    verb: 'download',
    from: below(root.remote, path),
    to: below(root.local, path),
  });
  const told = <T>(entry: { readonly path: string }, work: (route: TransferPaths) => Promise<T>): Promise<T> => {
    const route = routeOf(entry);
    return explained(requests, route, () => work(route));
  };
  return {
    folder: (folder) => told(folder, (route) => makeFolder(folder, route)),
    file: (file, onProgress) => told(file, async (route) => void (await downloadFile(requests, route, onProgress))),
    link: (link) => told(link, ({ to }) => replace(to, (temporary) => symlink(link.content, temporary))),
    finish: (folder) => told(folder, ({ to }) => chmod(to, folder.mode)),
  };
}

async function makeFolder(folder: TreeFolder, route: TransferPaths): Promise<boolean> {
  try {
    await mkdir(route.to, { mode: folder.mode | 0o700 });
    return true;
  } catch (error) {
    if (errorCode(error) !== 'EEXIST') throw error;
    // Inside, a link is not followed: an earlier download may have brought it, to lead somewhere else.
    const there = entryFacts(await (folder.path === '' ? stat(route.to) : lstat(route.to)));
    if (there.kind !== 'folder') throw refused(route, `${route.to} is there already and is not a folder`);
    const opened = await opensFolder(there, (mode) => chmod(route.to, mode));
    await removeParts(route.to);
    return opened;
  }
}

async function downloadFile(
  requests: SftpRequests,
  route: TransferPaths,
  onProgress?: (bytes: number, totalBytes: number) => void,
): Promise<number> {
  const handle = await requests.open(route.from, 'r', 0);
  try {
    const { mode, bytes } = await requests.fstat(handle);
    return await replace(route.to, async (temporary) => {
      const file = await open(temporary, 'wx', 0o600);
      try {
        const copied = await readInto(file, { requests, handle, bytes, route, onProgress });
        await file.chmod(mode);
        return copied;
      } finally {
        await file.close();
      }
    });
  } finally {
    requests.abandon(handle);
  }
}

interface Reading {
  readonly requests: SftpRequests;
  readonly handle: Buffer;
  readonly bytes: number;
  readonly route: TransferPaths;
  readonly onProgress: ((bytes: number, totalBytes: number) => void) | undefined;
}

/** Gives how many bytes there were. */
async function readInto(file: FileHandle, from: Reading): Promise<number> {
  const { requests, handle, bytes, route, onProgress } = from;
  // Files of /proc and /sys have content and no length.
  const limit = requests.limits.read;
  if (bytes === 0) return readToEnd((into, position) => requests.read(handle, into, position), { file, limit });
  let copied = 0;
  await inChunks({ bytes, limit }, async (position, chunk, stopped) => {
    for (let filled = 0; filled < chunk.length; ) {
      if (stopped()) return;
      const count = await requests.read(handle, chunk.subarray(filled), position + filled);
      if (count === 0) throw refused(route, 'it became shorter meanwhile');
      filled += count;
    }
    await writeWhole(file, chunk, position);
    copied += chunk.length;
    onProgress?.(copied, bytes);
  });
  return copied;
}
