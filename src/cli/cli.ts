/** What a command is given of the outside: streams, environment, interruption. A test hands in its own. */
import type { Readable } from 'node:stream';
import type { Command } from 'commander';
import type { RouterHypervisor } from '../hypervisor/router.js';

export interface OutputStream {
  write(text: string | Uint8Array): unknown;
  readonly isTTY?: boolean | undefined;
  readonly columns?: number | undefined;
}

export interface InputStream extends Readable {
  readonly isTTY?: boolean | undefined;
  /** A terminal's: hands over each key as it is pressed, or whole lines again. */
  setRawMode?(raw: boolean): unknown;
}

export interface Cli {
  readonly stdin: InputStream;
  /** For data alone. */
  readonly stdout: OutputStream;
  /** For everything else. */
  readonly stderr: OutputStream;
  readonly variables: Readonly<Record<string, string | undefined>>;
  readonly home: string;
  readonly cwd: string;
  /** Aborted by Ctrl-C or SIGTERM. */
  readonly signal: AbortSignal;
  /** Called to say what an interruption will do, while something runs that one would stop. */
  onInterrupt: (() => string) | null;
  /** Called when nobody reads stdout any more. */
  onOutputClosed: (() => void) | null;
  /** From now on signals are for whoever this hands them to; with null they interrupt again. */
  passSignals(to: ((signal: NodeJS.Signals) => void) | null): void;
  /** Leaves Ctrl-C to a child that has the terminal. */
  ignoreInterrupts(): void;
  /** How many words stand before `--`, without the command's name and options. */
  wordsBeforeDashes: number;
  /** The exit code of a command that ran to its end. */
  exitCode: number;
  /** Takes the place of this package's backends in tests. */
  readonly hypervisor?: RouterHypervisor;
}

/** One command: its options, its help, and what it does. */
export interface CommandModule {
  configure(command: Command, cli: Cli): void;
}
