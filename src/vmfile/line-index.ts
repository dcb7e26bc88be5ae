/** Offsets of a text as lines and columns. */
import type { Span } from '../model/source.js';

export interface Position {
  /** Counts from 1. */
  readonly line: number;
  /** Counts from 1, in characters (Unicode code points), as compilers and editors do. */
  readonly column: number;
}

/** The lines of a text. A line ends at LF, CR LF or CR; KDL's rarer line ends do not end a line in an editor. */
export class LineIndex {
  readonly #text: string;
  readonly #starts: readonly number[];

  constructor(text: string) {
    this.#text = text;
    this.#starts = [0, ...Array.from(text.matchAll(/\r\n|\n|\r/g), (match) => match.index + match[0].length)];
  }

  position(offset: number): Position {
    const line = this.lineAt(offset);
    const before = this.#text.slice(this.span(line).start, Math.min(offset, this.span(line).end));
    return { line, column: Array.from(before).length + 1 };
  }

  /** The number of the line that holds an offset; an offset outside the text belongs to its nearest line. */
  lineAt(offset: number): number {
    let low = 0;
    let high = this.#starts.length - 1;
    while (low < high) {
      const middle = Math.ceil((low + high) / 2);
      if ((this.#starts[middle] ?? 0) <= offset) low = middle;
      else high = middle - 1;
    }
    return low + 1;
  }

  /** Where the text of a line is, its line end left out. */
  span(line: number): Span {
    const start = this.#starts[line - 1] ?? this.#text.length;
    const next = this.#starts[line] ?? this.#text.length;
    const text = this.#text.slice(start, next);
    return { start, end: start + text.replace(/[\r\n]+$/, '').length };
  }
}
