/** Where exactly a copy goes, by the rules of `cp -r`; the same in both directions. */
import { posix } from 'node:path';
import { VmctlError } from '../src/errors.js';
import type { EntryKind } from '../src/ssh/client.js';

export interface CopyFacts {
  readonly source: {
    /** As it was written, with its slashes. */
    readonly path: string;
    readonly kind: 'file' | 'folder';
    /** For messages. */
    readonly shown: string;
  };
  readonly destination: {
    readonly path: string;
    /** What it leads to; null where there is nothing. */
    readonly kind: EntryKind | null;
    /** What the folder that it is in turned out to be. */
    readonly parent: EntryKind | null;
    readonly shown: string;
  };
}

/**
 * The path that the source becomes: its own name in a folder that is there, else the destination itself. Throws
 * `TRANSFER_FAILED` where the destination cannot take it.
 */
export function copyDestination({ source, destination }: CopyFacts): string {
  const refused = (why: string, hint?: string): VmctlError =>
    new VmctlError('TRANSFER_FAILED', `cannot copy ${source.shown} to ${destination.shown}: ${why}`, {
      ...(hint === undefined ? {} : { hint }),
      fields: { source: source.shown, destination: destination.shown },
    });
  const path = withoutSlashes(destination.path);
  const folderMeant = path !== destination.path;
  switch (destination.kind) {
    case 'folder': {
      const name = lastName(source.path);
      return name === null ? path : posix.join(path, name);
    }
    case 'file':
      if (folderMeant) throw refused(`${path} is a file, and the slash at its end asks for a folder`);
      if (source.kind === 'folder') throw refused(`${source.path} is a folder, and ${path} is a file`);
      return path;
    case 'link':
    case 'other':
      throw refused(`${path} is neither a file nor a folder`);
    case null:
      if (destination.parent !== 'folder') {
        const parent = parentOf(path);
        throw refused(`there is no folder ${parent}`, `Create ${parent} first.`);
      }
      if (folderMeant && source.kind === 'file') {
        throw refused(`there is no folder ${path}`, `Create ${path} first, or leave out the slash at the end.`);
      }
      return path;
  }
}

/** The folder that a path is in; `.` is where relative paths begin. */
export function parentOf(path: string): string {
  return posix.dirname(withoutSlashes(path));
}

/** The path without the slashes at its end, but for the root folder. */
export function withoutSlashes(path: string): string {
  return path.replace(/(?!^)\/+$/, '');
}

/** Null for a folder that is not called by a name, such as `.`: then it is what is in it that is copied. */
function lastName(path: string): string | null {
  const name = posix.basename(path);
  // The basename of `a/.` and `a/..` is the dots.
  return name === '' || name === '.' || name === '..' ? null : name;
}
