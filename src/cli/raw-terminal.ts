/** Lends this terminal to a guest, and takes it back on every way out but a `kill -9`. */
import { runInteractive } from '../util/exec.js';
import type { InputStream, OutputStream } from './cli.js';
import type { TerminalModes } from './terminal-modes.js';

/** Signals that end a process and that vmctl does not handle otherwise (signal(7)). */
const DEADLY = ['SIGQUIT', 'SIGABRT', 'SIGALRM', 'SIGUSR2', 'SIGVTALRM', 'SIGXCPU', 'SIGXFSZ', 'SIGSYS', 'SIGIO'];

export interface TerminalStreams {
  readonly stdin: InputStream;
  readonly stdout: OutputStream;
}

export class RawTerminal implements Disposable {
  readonly #streams: TerminalStreams;
  readonly #modes: TerminalModes;
  readonly #listeners: (() => void)[] = [];
  #restored = false;

  private constructor(streams: TerminalStreams, modes: TerminalModes) {
    this.#streams = streams;
    this.#modes = modes;
  }

  /** Switches to raw mode; `modes` knows what the guest changes from then on. */
  static async enter(streams: TerminalStreams, modes: TerminalModes): Promise<RawTerminal> {
    const terminal = new RawTerminal(streams, modes);
    terminal.#listen();
    await terminal.#lend();
    return terminal;
  }

  /** Gives the terminal back as it was; does nothing the second time. */
  restore(): void {
    if (this.#restored) return;
    this.#restored = true;
    for (const remove of this.#listeners) remove();
    this.#takeBack();
  }

  [Symbol.dispose](): void {
    this.restore();
  }

  #listen(): void {
    // Also when vmctl has a bug: an uncaught exception ends with this event.
    this.#on('exit', () => this.restore());
    for (const signal of DEADLY) {
      this.#on(signal, () => {
        this.restore();
        process.kill(process.pid, signal);
      });
    }
    this.#on('SIGTSTP', () => {
      this.#takeBack();
      process.kill(process.pid, 'SIGSTOP');
    });
    this.#on('SIGCONT', () => void this.#lend());
  }

  #on(event: string, listener: () => void): void {
    process.on(event, listener);
    this.#listeners.push(() => process.off(event, listener));
  }

  async #lend(): Promise<void> {
    const { stdin } = this.#streams;
    stdin.setRawMode?.(false);
    stdin.setRawMode?.(true);
    // Node's raw mode still turns a line feed into a new line, and programs that draw move the cursor with line feeds.
    // The guest's own terminal driver has done that already where it is meant.
    await runInteractive('stty', ['-opost'], { cwd: '/' }).catch(() => null);
    if (this.#restored) this.#takeBack();
  }

  #takeBack(): void {
    const { stdin, stdout } = this.#streams;
    // The terminal may be gone.
    try {
      const undo = this.#modes.undo();
      if (stdout.isTTY === true && undo !== '') stdout.write(undo);
      stdin.setRawMode?.(false);
    } catch {
      return;
    }
  }
}
