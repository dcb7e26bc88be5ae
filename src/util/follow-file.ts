/**
 * What a file holds and everything that is added to it, as `tail -F` shows it: the file may not be there yet, may be
 * emptied, and may be replaced by another one. It ends with the file's folder, so a VM's log ends with the VM.
 */
import { type FSWatcher, watch } from 'node:fs';
import { type FileHandle, open, stat } from 'node:fs/promises';
import { basename, dirname } from 'node:path';
import { VmctlError } from '../errors.js';
import { offsetOfLastLines, readFrom } from './file-tail.js';
import { isMissing, stateDirectoryError } from './fs.js';
import { throwIfAborted, unlessAborted } from './wait.js';

export interface FollowOptions {
  /** Ends it: the next value is then `ABORTED`. */
  readonly signal: AbortSignal;
  /** Begin with the last lines of what is there; default everything. */
  readonly lastLines?: number;
}

/**
 * The file's bytes in order, in pieces as they come: nothing twice, nothing left out. A piece may end within a line or
 * a character. Ends when the folder is removed or renamed, with everything that was written until then.
 * Throws `ABORTED` when cancelled, `STATE_DIRECTORY` when the file cannot be read.
 *
 * A file that is emptied and has grown beyond its old size before that is noticed cannot be told from one that has only
 * grown.
 */
export async function* followFile(path: string, options: FollowOptions): AsyncGenerator<Uint8Array, void> {
  try {
    yield* follow(path, options);
  } catch (error) {
    throw error instanceof VmctlError ? error : stateDirectoryError('read', path, error);
  }
}

async function* follow(path: string, options: FollowOptions): AsyncGenerator<Uint8Array, void> {
  const { signal, lastLines } = options;
  const folder = await openIfPresent(dirname(path));
  if (folder === null) return;
  await using _open = folder;
  // Watched before the first look, so that no change falls between the two.
  using changes = new Changes(path);
  await using followed = new FollowedFile(path);
  await followed.begin(lastLines);
  for (;;) {
    changes.forget();
    // Asked before the rest is read: what was written before the folder went away, or before the next file came, is in it.
    const gone = await isReplaced(folder, dirname(path), { orMissing: true });
    const next = await followed.findNext();
    for await (const chunk of followed.rest()) {
      yield chunk;
      throwIfAborted(signal);
    }
    if (gone) return;
    if (next === null) await changes.await(signal);
    else await followed.moveTo(next);
  }
}

/** The file that is read at the moment, and how far. It is kept open, so its inode cannot become another file's. */
class FollowedFile implements AsyncDisposable {
  readonly #path: string;
  #file: FileHandle | null = null;
  #offset = 0;
  #next: FileHandle | null = null;

  constructor(path: string) {
    this.#path = path;
  }

  async begin(lastLines: number | undefined): Promise<void> {
    this.#file = await openIfPresent(this.#path);
    if (this.#file !== null && lastLines !== undefined) this.#offset = await offsetOfLastLines(this.#file, lastLines);
  }

  /** The file that has taken this one's place; null while there is none. */
  async findNext(): Promise<FileHandle | null> {
    if (this.#file !== null && !(await isReplaced(this.#file, this.#path, { orMissing: false }))) return null;
    this.#next = await openIfPresent(this.#path);
    return this.#next;
  }

  async moveTo(next: FileHandle): Promise<void> {
    await this.#file?.close();
    this.#file = next;
    this.#next = null;
    this.#offset = 0;
  }

  /** What was not read yet. */
  async *rest(): AsyncGenerator<Uint8Array, void> {
    if (this.#file === null) return;
    if ((await this.#file.stat()).size < this.#offset) this.#offset = 0;
    for await (const chunk of readFrom(this.#file, this.#offset)) {
      this.#offset += chunk.length;
      yield chunk;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#file?.close();
    await this.#next?.close();
  }
}

async function openIfPresent(path: string): Promise<FileHandle | null> {
  try {
    return await open(path, 'r');
  } catch (error) {
    if (isMissing(error)) return null;
    throw error;
  }
}

/** True when another file or folder has the path by now; when none has it, as the caller says. */
async function isReplaced(
  file: FileHandle,
  path: string,
  { orMissing }: { readonly orMissing: boolean },
): Promise<boolean> {
  const mine = await file.stat();
  try {
    const there = await stat(path);
    return there.ino !== mine.ino || there.dev !== mine.dev;
  } catch (error) {
    if (isMissing(error)) return orMissing;
    throw error;
  }
}

/** Where the host gives out no more watches, the file is looked at so often, in milliseconds. */
const LOOK_EVERY_MS = 250;

/** Whether something happened to a file, to its name, or to its folder. */
class Changes implements Disposable {
  readonly #names: readonly string[];
  #watcher: FSWatcher | null = null;
  #timer: NodeJS.Timeout | null = null;
  #changed = false;
  #wake: () => void = () => {};

  constructor(path: string) {
    const folder = dirname(path);
    // The folder's own end is told under its own name (inotify(7), IN_MOVE_SELF and IN_DELETE_SELF).
    this.#names = [basename(path), basename(folder)];
    try {
      this.#watcher = watch(folder, (_event, name) => {
        if (name === null || this.#names.includes(name)) this.#notice();
      });
      this.#watcher.on('error', () => this.#lookOften());
    } catch {
      this.#lookOften();
    }
  }

  forget(): void {
    this.#changed = false;
  }

  /** Settles when there was a change since `forget`; throws `ABORTED` when cancelled. */
  async await(signal: AbortSignal): Promise<void> {
    throwIfAborted(signal);
    if (this.#changed) return;
    const change = new Promise<void>((resolve) => {
      this.#wake = resolve;
    });
    await unlessAborted(change, signal);
  }

  #notice(): void {
    this.#changed = true;
    this.#wake();
  }

  #lookOften(): void {
    this.#timer ??= setInterval(() => this.#notice(), LOOK_EVERY_MS);
    this.#notice();
  }

  [Symbol.dispose](): void {
    this.#watcher?.close();
    if (this.#timer !== null) clearInterval(this.#timer);
  }
}
