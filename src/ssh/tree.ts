/** A folder with everything in it: what is there, found out before anything is copied. */
import type { Stats } from 'node:fs';
import { lstat, readdir, readlink } from 'node:fs/promises';
import { VmctlError } from '../errors.js';
import { errorCode } from '../util/fs.js';
import { forEachAtOnce } from '../util/parallel.js';
import { type EntryFacts, type SftpRequests, entryFacts } from './sftp.js';

export interface TreeFolder {
  /** Relative to the folder that is copied, which itself is the empty path. */
  readonly path: string;
  readonly mode: number;
}

export interface TreeFile extends TreeFolder {
  readonly bytes: number;
}

export interface TreeLink {
  readonly path: string;
  /** What it says, which may lead anywhere. */
  readonly content: string;
}

export interface Tree {
  /** Each before what is in it. */
  readonly folders: readonly TreeFolder[];
  readonly files: readonly TreeFile[];
  readonly links: readonly TreeLink[];
  /** Paths of sockets, devices and named pipes. */
  readonly others: readonly string[];
}

interface Listed {
  readonly name: string;
  readonly facts: EntryFacts;
}

/** Where a tree is read. */
export interface TreeSource {
  list(folder: string): Promise<readonly Listed[]>;
  readlink(path: string): Promise<string>;
}

const AT_ONCE = 16;

/**
 * Looks at a whole folder, level by level; symbolic links are not followed. Throws `TRANSFER_FAILED` for names that
 * cannot be copied, and what the source throws.
 */
export async function scanTree(source: TreeSource, root: string, mode: number): Promise<Tree> {
  const tree: GrowingTree = { folders: [{ path: '', mode }], files: [], links: [], others: [] };
  let level: readonly string[] = [''];
  while (level.length > 0) {
    const known = tree.folders.length;
    await forEachAtOnce(level, { limit: AT_ONCE }, async (folder) => {
      addEntries(tree, { folder, root }, await source.list(below(root, folder)));
    });
    level = tree.folders.slice(known).map(({ path }) => path);
  }
  await forEachAtOnce(tree.links, { limit: AT_ONCE }, async (link) => {
    link.content = await source.readlink(below(root, link.path));
    assertText(link.content, `what the symbolic link ${below(root, link.path)} says`);
  });
  return tree;
}

interface GrowingTree extends Tree {
  readonly folders: TreeFolder[];
  readonly files: TreeFile[];
  readonly links: { readonly path: string; content: string }[];
  readonly others: string[];
}

function addEntries(tree: GrowingTree, at: { folder: string; root: string }, listed: readonly Listed[]): void {
  const names = new Set<string>();
  for (const { name, facts } of listed) {
    assertName(name, names, below(at.root, at.folder));
    const path = below(at.folder, name);
    if (facts.kind === 'folder') tree.folders.push({ path, mode: facts.mode });
    else if (facts.kind === 'file') tree.files.push({ path, mode: facts.mode, bytes: facts.bytes });
    else if (facts.kind === 'link') tree.links.push({ path, content: '' });
    else tree.others.push(path);
  }
}

/** The path of something in a folder; the empty path is that folder itself. */
export function below(folder: string, path: string): string {
  if (path === '' || folder === '') return `${folder}${path}`;
  return folder.endsWith('/') ? `${folder}${path}` : `${folder}/${path}`;
}

/** A tree on this host. Errors are the system's. */
export const LOCAL_TREE: TreeSource = {
  async list(folder) {
    const listed: Listed[] = [];
    for (const name of await readdir(folder)) {
      const stats = await statsOf(below(folder, name));
      if (stats !== null) listed.push({ name, facts: entryFacts(stats) });
      // A name that is not UTF-8 does not lead back to its file.
      else if (name.includes(NOT_UTF8)) listed.push({ name, facts: { kind: 'other', mode: 0, bytes: 0 } });
    }
    return listed;
  },
  readlink: (path) => readlink(path),
};

/** A tree in the guest. Errors are the server's. */
export function guestTree(requests: SftpRequests): TreeSource {
  return { list: (folder) => requests.list(folder), readlink: (path) => requests.readlink(path) };
}

/** Null for what has gone since the folder was listed. */
async function statsOf(path: string): Promise<Stats | null> {
  try {
    return await lstat(path);
  } catch (error) {
    if (errorCode(error) === 'ENOENT') return null;
    throw error;
  }
}

/** What stands for bytes that are no UTF-8. */
const NOT_UTF8 = '\uFFFD';

function assertText(text: string, what: string): void {
  if (!text.includes(NOT_UTF8)) return;
  throw new VmctlError('TRANSFER_FAILED', `${what} is not UTF-8 text, so it cannot be copied`, {
    hint: 'Rename it, or copy an archive of the folder.',
  });
}

/** A guest may be hostile: a name that leads out of its folder, or comes twice, would write where it should not. */
function assertName(name: string, known: Set<string>, folder: string): void {
  assertText(name, `the name ${below(folder, name)}`);
  if (name === '' || name === '.' || name === '..' || /[/\0]/.test(name) || known.has(name)) {
    throw new VmctlError('TRANSFER_FAILED', `${folder} lists ${JSON.stringify(name)}, which cannot be a file's name`);
  }
  known.add(name);
}
