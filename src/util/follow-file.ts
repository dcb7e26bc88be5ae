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
import { pause, throwIfAborted, unlessAborted } from './wait.js';

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
  await using followed = new FollowedFile(path);
  await followed.begin(lastLines);
  let inARow = 0;
  for (;;) {
    // Watched before the look, so that no change falls between the two.
    using changes = inARow > FEW_IN_A_ROW ? null : new Changes(path);
    // Asked before the rest is read: what was written before the folder went away, or before the next file came, is in it.
    const gone = await isReplaced(folder, dirname(path), { orMissing: true });
    const next = await followed.findNext();
    // Gone meanwhile: then the next file may be one of another folder of this name.
    const isOver = gone || (next !== null && (await isReplaced(folder, dirname(path), { orMissing: true })));
    let hasGrown = false;
    for await (const chunk of followed.rest()) {
      hasGrown = true;
      yield chunk;
      throwIfAborted(signal);
    }
    if (isOver) return;
    if (next !== null) {
      await followed.moveTo(next);
    } else if (changes === null) {
      if (!hasGrown) inARow = 0;
      await pause(GATHER_MS, signal);
    } else {
      const since = performance.now();
      await changes.await(signal);
      inARow = performance.now() - since < GATHER_MS ? inARow + 1 : 0;
    }
  }
}

/**
 * QEMU writes a console byte by byte, and to wake up at each slows the guest down. When more than a few changes have come
 * close together, the file is not watched any more but looked at so often, in milliseconds, until it no longer grows.
 */
const GATHER_MS = 30;
const FEW_IN_A_ROW = 10;

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
    const { size } = await this.#file.stat();
    if (size < this.#offset) this.#offset = 0;
    // To its end, whoever writes all the time would be read a few bytes at a time.
    for await (const chunk of readFrom(this.#file, this.#offset, size)) {
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

/**
 * Whether something happened to a file, to its name, or to its folder. Watches until the first change only: Node reads
 * further ones for as long as they come faster than it reads, and does nothing else meanwhile.
 */
class Changes implements Disposable {
  readonly #watchers: FSWatcher[] = [];
  #timer: NodeJS.Timeout | null = null;
  #changed = false;
  #wake: () => void = () => {};

  constructor(path: string) {
    try {
      this.#watch(path);
      // The folder's end is told by the folder it is in: whoever watches a folder itself learns of its removal only when
      // nobody has it open any more (inotify(7), IN_DELETE_SELF), and whoever follows the file has.
      this.#watch(dirname(path));
    } catch {
      this.#lookLater();
    }
  }

  /** Notices what happens to a name in its folder. */
  #watch(path: string): void {
    const watcher = watch(dirname(path), (_event, name) => {
      if (name === null || name === basename(path)) this.#notice();
    });
    watcher.on('error', () => this.#lookLater());
    this.#watchers.push(watcher);
  }

  /** Settles when there was a change since this was made; throws `ABORTED` when cancelled. */
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
    this[Symbol.dispose]();
    this.#wake();
  }

  #lookLater(): void {
    this.#timer ??= setTimeout(() => this.#notice(), LOOK_EVERY_MS);
  }

  [Symbol.dispose](): void {
    for (const watcher of this.#watchers) watcher.close();
    if (this.#timer !== null) clearTimeout(this.#timer);
  }
}
