/** Bytes from a guest to the lines that a person would have seen. */
import { StringDecoder } from 'node:string_decoder';

const LONGEST_LINE = 16 * 1024;

/**
 * Calls back once a line, without its line break; feed it with `push`, then call `end` once.
 *
 * - Characters may be cut anywhere between two chunks (UTF-8; what is not UTF-8 becomes U+FFFD).
 * - `\n` and `\r\n` end a line. A lone `\r` begins the line anew, as on a terminal, so of a progress bar only the last
 *   state is told.
 * - A line longer than `longest` characters (default 16384) is told in pieces of that length, and nothing is lost.
 * - A last line without a line break is told by `end`.
 */
export class LineSplitter {
  readonly #decoder = new StringDecoder('utf8');
  readonly #onLine: (line: string) => void;
  readonly #longest: number;
  #partial = '';

  constructor(onLine: (line: string) => void, longest: number = LONGEST_LINE) {
    this.#onLine = onLine;
    this.#longest = longest;
  }

  push(chunk: Uint8Array): void {
    this.#take(this.#decoder.write(chunk));
  }

  end(): void {
    this.#take(this.#decoder.end());
    const rest = lastState(this.#partial.replace(/\r+$/, ''));
    this.#partial = '';
    if (rest !== '') this.#onLine(rest);
  }

  #take(text: string): void {
    const lines = text.split('\n');
    const last = lines.pop() ?? '';
    for (const line of lines) {
      this.#extend(line);
      const whole = lastState(this.#partial.replace(/\r+$/, ''));
      this.#partial = '';
      this.#onLine(whole);
    }
    this.#extend(last);
  }

  #extend(text: string): void {
    this.#partial = lastState(this.#partial + text);
    while (this.#partial.length > this.#longest) {
      this.#onLine(this.#partial.slice(0, this.#longest));
      this.#partial = this.#partial.slice(this.#longest);
    }
  }
}

/** What stands after the last carriage return that something follows. */
function lastState(text: string): string {
  const end = text.search(/\r*$/);
  return text.slice(text.lastIndexOf('\r', end - 1) + 1);
}
