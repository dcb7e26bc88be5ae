/** A local file or folder into the guest. */
import { stat } from 'node:fs/promises';
import { VmctlError } from '../errors.js';
import { type EntryFacts, SFTP_STATUS, type SftpRequests, entryFacts, statusOf } from './sftp.js';
import { type TransferOptions, type TransferPaths, type TransferSummary, guestError, refused } from './transfer.js';
import { copyTree, opensFolder, type TreeSink } from './tree-copy.js';
import { LOCAL_TREE, type Tree, type TreeFolder, type TreeLink, below, scanTree } from './tree.js';
import { unreadable, uploadFile } from './upload.js';

/**
 * The local path becomes exactly the remote one: a file is written in place, a folder is made if it is not there and gets
 * everything that is in the local one; other things in it stay. A link as the local path is followed, links in a folder
 * are kept. Throws what `uploadFile` throws.
 */
export async function uploadTree(
  requests: SftpRequests,
  paths: { readonly local: string; readonly remote: string },
  options: Omit<TransferOptions, 'signal'> & { readonly onFailure: () => void },
): Promise<TransferSummary> {
  const source = await lookLocal(paths.local);
  if (source.kind === 'file') {
    const bytes = await uploadFile(requests, paths, options);
    return { files: 1, folders: 0, links: 0, bytes };
  }
  if (source.kind !== 'folder') {
    throw refused({ verb: 'upload', from: paths.local, to: paths.remote }, 'it is neither a file nor a folder');
  }
  const tree = await scanLocal(paths.local, source.mode);
  for (const path of tree.others) options.onSkipped?.(below(paths.local, path));
  return copyTree(tree, guestSink(requests, paths), options);
}

async function lookLocal(path: string): Promise<EntryFacts> {
  try {
    return entryFacts(await stat(path));
  } catch (error) {
    throw unreadable(path, error);
  }
}

async function scanLocal(path: string, mode: number): Promise<Tree> {
  try {
    return await scanTree(LOCAL_TREE, path, mode);
  } catch (error) {
    throw error instanceof VmctlError ? error : unreadable(path, error);
  }
}

function guestSink(requests: SftpRequests, root: { readonly local: string; readonly remote: string }): TreeSink {
  const routeOf = ({ path }: { readonly path: string }): TransferPaths => ({
    verb: 'upload',
    from: below(root.local, path),
    to: below(root.remote, path),
  });
  const explained = async <T>(route: TransferPaths, work: () => Promise<T>): Promise<T> => {
    try {
      return await work();
    } catch (error) {
      throw await guestError(error, requests, route);
    }
  };
  return {
    folder: (folder) => explained(routeOf(folder), () => makeFolder(requests, folder, routeOf(folder))),
    link: (link) => explained(routeOf(link), () => makeLink(requests, link, routeOf(link))),
    finish: (folder) => explained(routeOf(folder), () => requests.chmod(routeOf(folder).to, folder.mode)),
    file: async (file, onProgress) => {
      const { from, to } = routeOf(file);
      await uploadFile(requests, { local: from, remote: to }, { onProgress });
    },
  };
}

async function makeFolder(requests: SftpRequests, folder: TreeFolder, route: TransferPaths): Promise<boolean> {
  try {
    await requests.mkdir(route.to, folder.mode | 0o700);
    return true;
  } catch (error) {
    // A server may say anything about a folder that is there.
    if (statusOf(error) === null) throw error;
    const there = await requests.stat(route.to);
    if (there === null) throw error;
    if (there.kind !== 'folder') throw refused(route, `${route.to} is there already and is not a folder`);
    return await opensFolder(there, (mode) => requests.chmod(route.to, mode));
  }
}

async function makeLink(requests: SftpRequests, link: TreeLink, route: TransferPaths): Promise<void> {
  try {
    await requests.symlink(link.content, route.to);
  } catch (error) {
    if (statusOf(error) !== SFTP_STATUS.failure) throw error;
    const there = await requests.lstat(route.to);
    if (there === null) throw error;
    if (there.kind === 'folder') throw refused(route, `${route.to} is there already and is a folder`);
    await requests.unlink(route.to);
    await requests.symlink(link.content, route.to);
  }
}
