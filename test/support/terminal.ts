/**
 * A real terminal for a program: a pseudo-terminal of tmux, whose keys are pressed and whose screen is read. Each has a
 * tmux server of its own, which ends with it.
 */
import { execFile } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { waitFor } from '../../src/util/wait.js';

const run = promisify(execFile);

export interface TerminalOptions {
  /** Default 100. */
  readonly columns?: number;
  /** Default 30. */
  readonly rows?: number;
  readonly cwd?: string;
  /** Instead of the test's own variables; PATH, HOME and TERM are there in any case. */
  readonly variables?: Readonly<Record<string, string>>;
}

/** A condition on the screen's text, as a person would look for it. */
export type Sight = string | RegExp | ((screen: string) => boolean);

const SIGHT_TIMEOUT_MS = 240_000;

export class Terminal implements AsyncDisposable {
  readonly #folder: string;

  private constructor(folder: string) {
    this.#folder = folder;
  }

  /** Runs a program in a new terminal. When it ends, its last screen stays to be read. */
  static async start(command: readonly string[], options: TerminalOptions = {}): Promise<Terminal> {
    const { columns = 100, rows = 30, cwd = tmpdir(), variables = {} } = options;
    const terminal = new Terminal(await mkdtemp(join(tmpdir(), 'vmctl-tmux-')));
    // "env -i" drops what the tests run with, such as CI, and tmux's own TMUX.
    const { PATH = '', HOME = '/' } = process.env;
    const environment = { PATH, HOME, TERM: 'xterm-256color', LANG: 'C.UTF-8', ...variables };
    const words = ['env', '-i', ...Object.entries(environment).map(([name, value]) => `${name}=${value}`), ...command];
    await terminal.#tmux(
      ...['set-option', '-g', 'remain-on-exit', 'on', ';', 'set-option', '-g', 'status', 'off', ';'],
      ...['set-option', '-g', 'history-limit', '5000', ';'],
      ...['set-option', '-g', 'remain-on-exit-format', '', ';'],
      ...['new-session', '-d', '-x', String(columns), '-y', String(rows), '-c', cwd, '--', ...words],
    );
    return terminal;
  }

  /** A shell that prints `$ ` when it waits, for tests of what a program leaves behind. */
  static async shell(options: TerminalOptions = {}): Promise<Terminal> {
    const variables = { PS1: '$ ', ...options.variables };
    const terminal = await Terminal.start(['sh'], { ...options, variables });
    await terminal.waitFor('$');
    return terminal;
  }

  /** Presses keys, by tmux's names for them: `Enter`, `C-c`, `C-]`. */
  async press(...keys: readonly string[]): Promise<void> {
    await this.#tmux('send-keys', ...keys);
  }

  /** Types a text as it is, and Enter. */
  async type(line: string): Promise<void> {
    await this.#tmux('send-keys', '-l', '--', line);
    await this.press('Enter');
  }

  /** Empties the screen of a shell that waits, so that nothing old is taken for new. */
  async clear(): Promise<void> {
    await this.type('clear');
    await this.waitFor((screen) => screen === '$');
  }

  /** What is on the screen, without empty lines at its end. */
  async screen(options: { readonly colours?: boolean; readonly history?: boolean } = {}): Promise<string> {
    const flags = [...(options.colours === true ? ['-e'] : []), ...(options.history === true ? ['-S', '-'] : [])];
    return (await this.#tmux('capture-pane', '-p', ...flags)).trimEnd();
  }

  /** Waits until the screen shows it, and gives the screen. Throws with the screen when it does not. */
  async waitFor(sight: Sight, timeoutMs = SIGHT_TIMEOUT_MS): Promise<string> {
    const look = async () => {
      const screen = await this.screen();
      return shows(screen, sight) ? screen : null;
    };
    const screen = await waitFor(look, { timeoutMs });
    if (screen !== null) return screen;
    throw new Error(`the terminal does not show ${String(sight)}:\n${await this.screen({ history: true })}`);
  }

  async resize(columns: number, rows: number): Promise<void> {
    await this.#tmux('resize-window', '-x', String(columns), '-y', String(rows));
  }

  /** Waits until the program has ended; its exit code. */
  async exitCode(): Promise<number> {
    const look = async () => {
      const [dead, code] = (await this.#show('#{pane_dead} #{pane_dead_status}')).split(' ');
      return dead === '1' ? Number(code) : null;
    };
    const code = await waitFor(look, { timeoutMs: SIGHT_TIMEOUT_MS });
    if (code === null) throw new Error(`the program does not end:\n${await this.screen()}`);
    return code;
  }

  /** Facts of the screen that its text does not tell. */
  async state(): Promise<{ readonly cursorVisible: boolean; readonly otherScreen: boolean }> {
    const [cursor, other] = (await this.#show('#{cursor_flag} #{alternate_on}')).split(' ');
    return { cursorVisible: cursor === '1', otherScreen: other === '1' };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#tmux('kill-server').catch(() => '');
    await rm(this.#folder, { recursive: true, force: true });
  }

  async #show(format: string): Promise<string> {
    return (await this.#tmux('display-message', '-p', format)).trim();
  }

  async #tmux(...words: readonly string[]): Promise<string> {
    const server = ['-S', join(this.#folder, 'socket'), '-f', '/dev/null', '-u'];
    return (await run('tmux', [...server, ...words], { encoding: 'utf8' })).stdout;
  }
}

function shows(screen: string, sight: Sight): boolean {
  if (typeof sight === 'string') return screen.includes(sight);
  return sight instanceof RegExp ? sight.test(screen) : sight(screen);
}

/**
 * At the prompt of a guest's shell: a program for Ctrl-C to end. It says itself that it runs, because a key that comes
 * while bash still starts it reaches bash alone: bash then prompts while the program takes the terminal, reads EIO (a
 * background process of an orphaned group, POSIX "Terminal Access Control"), and logs out.
 */
export async function sleepInGuest(terminal: Terminal): Promise<void> {
  await terminal.type("sh -c 'echo asleep-$((1+1)); exec sleep 1000'");
  await terminal.waitFor(/^asleep-2$/m);
}
