/** `provision.log`: everything that the steps said, with times and results. For people, so its form may change. */
import { open, type FileHandle } from 'node:fs/promises';
import { VmctlError } from '../errors.js';
import { PRIVATE_FILE_MODE } from '../paths.js';

/** Adds lines to the log in order, and keeps the first failure until somebody asks. */
export class ProvisionLog {
  readonly #path: string;
  readonly #clock: () => number;
  #file: FileHandle | null = null;
  #pending: string[] = [];
  #flushing: Promise<void> = Promise.resolve();
  #idle = true;
  #failure: unknown = null;

  /** `clock` gives milliseconds since the epoch. */
  constructor(path: string, clock: () => number) {
    this.#path = path;
    this.#clock = clock;
  }

  /** Throws `STATE_DIRECTORY` when the log cannot be opened. A new one is readable by its owner alone. */
  async open(): Promise<void> {
    try {
      this.#file = await open(this.#path, 'a', PRIVATE_FILE_MODE);
    } catch (error) {
      throw this.#error(error);
    }
  }

  /** One line: the time, which step, what kind of line, and its text. Does not wait. */
  write(step: string, kind: 'start' | 'out' | 'err' | 'note' | 'end', text: string): void {
    this.#pending.push(`${new Date(this.#clock()).toISOString()} ${step} ${kind.padEnd(5)} ${text}\n`);
    if (!this.#idle) return;
    this.#idle = false;
    this.#flushing = this.#flush();
  }

  /** Waits until what was written is no longer kept here, be it in the file or lost to a failure. Never throws. */
  async drain(): Promise<void> {
    await this.#flushing;
  }

  /** Waits until everything is in the file. Throws `STATE_DIRECTORY` when any of it could not be written. */
  async settle(): Promise<void> {
    await this.#flushing;
    if (this.#failure !== null) throw this.#error(this.#failure);
  }

  async close(): Promise<void> {
    await this.#flushing;
    await this.#file?.close();
  }

  async #flush(): Promise<void> {
    while (this.#pending.length > 0) {
      const text = this.#pending.join('');
      this.#pending = [];
      try {
        if (this.#failure === null) await this.#file?.appendFile(text);
      } catch (error) {
        this.#failure = error;
      }
    }
    this.#idle = true;
  }

  #error(error: unknown): VmctlError {
    const words = error instanceof Error ? error.message : String(error);
    return new VmctlError('STATE_DIRECTORY', `cannot write the provision log ${this.#path}: ${words}`, {
      hint: 'Check the free space and the permissions there.',
      cause: error,
      fields: { path: this.#path },
    });
  }
}
