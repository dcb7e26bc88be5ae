/**
 * The terminal below listr2's live tree. listr2 by itself erases as many lines as it has printed, which are fewer than
 * there are once the window has become narrower, and keeps what others print until the tree is done.
 */
import { stripVTControlCharacters } from 'node:util';
import { ProcessOutput } from 'listr2';
import stringWidth from 'string-width';

const ERASE_LINE = '\u001b[2K';
const UP = '\u001b[1A';
const LEFT = '\u001b[G';
const HIDE_CURSOR = '\u001b[?25l';
const SHOW_CURSOR = '\u001b[?25h';

/** How an update of the tree begins: by erasing the one before, line by line upwards. */
const ERASURE = new RegExp(String.raw`^(?:\u001b\[2K\u001b\[1A)*\u001b\[2K\u001b\[G`);

/** The sequences that erase a text that ends where the cursor is, in a window of so many columns. */
export function erasureOf(text: string, columns: number): string {
  const rows = text.split('\n').map((line) => Math.max(1, Math.ceil(stringWidth(line) / columns)));
  const count = rows.reduce((sum, row) => sum + row, 0);
  return `${`${ERASE_LINE}${UP}`.repeat(count - 1)}${ERASE_LINE}${LEFT}`;
}

/** What log-update draws on: any of its updates begins by erasing the one before. */
export class TreeOutput extends ProcessOutput {
  readonly #stream: NodeJS.WriteStream;
  readonly #original: NodeJS.WriteStream['write'];
  readonly #canvas: NodeJS.WriteStream;
  /** The tree as it stands on the screen. */
  #shown = '';

  constructor(stream: NodeJS.WriteStream) {
    super(stream, stream);
    this.#stream = stream;
    this.#original = stream.write.bind(stream);
    // The stream itself in everything else: listr2's own copy of it would keep the width of the beginning.
    const canvas: NodeJS.WriteStream = Object.create(stream);
    canvas.write = (update: string | Uint8Array) => this.#draw(textOf(update));
    this.#canvas = canvas;
  }

  override get stdout(): NodeJS.WriteStream {
    return this.#canvas;
  }

  /** From now on, what anybody else prints appears at once, above the tree. */
  override hijack(): void {
    this.#original(HIDE_CURSOR);
    this.#stream.write = (text: string | Uint8Array) => this.#printAbove(textOf(text));
  }

  override release(): void {
    this.#stream.write = this.#original;
    this.#original(SHOW_CURSOR);
  }

  override toStdout(text: string, eol = true): boolean {
    return this.#original(eol ? `${text}\n` : text);
  }

  #draw(update: string): boolean {
    const erasure = ERASURE.exec(update)?.[0] ?? '';
    const next = update.slice(erasure.length);
    const written = this.#original(`${erasure === '' ? '' : this.#erasure()}${next}`);
    this.#shown = next;
    return written;
  }

  #printAbove(text: string): boolean {
    // Only the cursor is hidden or shown.
    if (stripVTControlCharacters(text) === '') return this.#original(text);
    return this.#original(`${this.#erasure()}${text.endsWith('\n') ? text : `${text}\n`}${this.#shown}`);
  }

  #erasure(): string {
    return erasureOf(this.#shown, this.#stream.columns);
  }
}

function textOf(text: string | Uint8Array): string {
  return typeof text === 'string' ? text : new TextDecoder().decode(text);
}
