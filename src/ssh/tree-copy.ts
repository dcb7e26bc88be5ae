/** Copying a tree: the order of things, the same in both directions. */
import { forEachAtOnce } from '../util/parallel.js';
import type { TransferSummary } from './transfer.js';
import type { Tree, TreeFile, TreeFolder, TreeLink } from './tree.js';

/** Small files take several requests each; this many at a time hide the time for the answers. */
const FILES_AT_ONCE = 16;

/** Where a tree is written. */
export interface TreeSink {
  /**
   * Makes a folder that can be written, or sees to it that the one that is there can be. True when it has to be given its
   * mode in the end: what is there keeps its own.
   */
  folder(folder: TreeFolder): Promise<boolean>;
  file(file: TreeFile, onProgress: (bytes: number) => void): Promise<void>;
  /** Replaces a file or a link of that name. */
  link(link: TreeLink): Promise<void>;
  finish(folder: TreeFolder): Promise<void>;
}

/**
 * Folders first, then files, then links: no file is ever written through a link of the same tree. Folders get their
 * modes last, the inner ones first, because one without the right to write can take no files.
 */
export async function copyTree(
  tree: Tree,
  sink: TreeSink,
  options: {
    readonly onFailure: () => void;
    readonly onProgress?: ((bytes: number, totalBytes: number) => void) | undefined;
  },
): Promise<TransferSummary> {
  const { onFailure, onProgress } = options;
  const total = tree.files.reduce((sum, { bytes }) => sum + bytes, 0);
  const fresh: TreeFolder[] = [];
  for (const level of byDepth(tree.folders)) {
    await forEachAtOnce(level, { limit: FILES_AT_ONCE, onFailure }, async (folder) => {
      if (await sink.folder(folder)) fresh.push(folder);
    });
  }
  let copied = 0;
  await forEachAtOnce(tree.files, { limit: FILES_AT_ONCE, onFailure }, async (file) => {
    let own = 0;
    await sink.file(file, (bytes) => {
      copied += bytes - own;
      own = bytes;
      // A file may have grown since it was looked at.
      onProgress?.(copied, Math.max(total, copied));
    });
  });
  await forEachAtOnce(tree.links, { limit: FILES_AT_ONCE, onFailure }, (link) => sink.link(link));
  for (const level of byDepth(fresh).toReversed()) {
    await forEachAtOnce(level, { limit: FILES_AT_ONCE, onFailure }, (folder) => sink.finish(folder));
  }
  const { folders, files, links } = tree;
  return { folders: folders.length, files: files.length, links: links.length, bytes: copied };
}

const OWNER_WRITES = 0o300;

/**
 * Makes a folder that is there already writable, if only its mode forbids it: an earlier copy of a read-only folder left it
 * so. True when it was; where that is refused, writing into the folder will tell.
 */
export async function opensFolder(
  there: Pick<TreeFolder, 'mode'>,
  chmod: (mode: number) => Promise<void>,
): Promise<boolean> {
  if ((there.mode & OWNER_WRITES) === OWNER_WRITES) return false;
  return chmod(there.mode | 0o700).then(
    () => true,
    () => false,
  );
}

function byDepth(folders: readonly TreeFolder[]): readonly (readonly TreeFolder[])[] {
  const levels: TreeFolder[][] = [];
  for (const folder of folders) {
    const depth = folder.path === '' ? 0 : folder.path.split('/').length;
    (levels[depth] ??= []).push(folder);
  }
  // A level without new folders leaves a hole.
  return Array.from(levels, (level) => level ?? []);
}
