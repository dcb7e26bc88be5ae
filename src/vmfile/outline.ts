/**
 * The nodes of a broken document, as far as braces, strings and comments show them, so that one mistake does not hide
 * the others. What is inside a node's line is not judged here, only what encloses it.
 */
import type { Span } from '../model/source.js';
import type { Finding } from './diagnostic.js';
import { type Piece, type PieceKind, pieceAt } from './tokens.js';

/** A node's text. */
export interface Statement {
  readonly span: Span;
  /** Everything outside of its block, spaces and comments left out; the block is one `open-brace` piece. */
  readonly pieces: readonly Piece[];
  readonly block: Block | null;
}

export interface Block {
  /** With the braces, as far as they are there. */
  readonly span: Span;
  readonly closed: boolean;
  readonly statements: readonly Statement[];
}

export interface Outline {
  readonly statements: readonly Statement[];
  /** Braces, strings and comments that do not end, or end nothing. */
  readonly findings: readonly Finding[];
}

/** Outlines a document. Where braces do not match, indentation tells which one was forgotten. */
export function outline(text: string): Outline {
  const plain = new Outliner(text, { byIndentation: false }).run();
  const endless = plain.findings.filter(({ message }) => ENDLESS.has(message));
  // What has no end has swallowed the braces too.
  if (endless.length > 0) return { ...plain, findings: plain.findings.filter(({ message }) => message !== OPEN_BRACE) };
  const isOpen = plain.findings.some(({ message }) => message === OPEN_BRACE);
  return isOpen ? new Outliner(text, { byIndentation: true }).run() : plain;
}

const MAX_DEPTH = 100;
const OPEN_BRACE = 'this `{` is never closed';
const OPEN_COMMENT = 'this comment is never closed';
const OPEN_MULTI_LINE = 'this multi-line string is never closed';
const ENDLESS: ReadonlySet<string> = new Set([OPEN_COMMENT, OPEN_MULTI_LINE]);

interface OpenBlock {
  readonly start: number;
  /** The indentation of the line that opens it, and where that line starts. */
  readonly indent: number;
  readonly line: number;
  /** The first word of the node. */
  readonly word: string;
}

const SEPARATORS: ReadonlySet<PieceKind> = new Set(['space', 'newline', 'comment', 'semicolon']);

class Outliner {
  readonly #text: string;
  readonly #byIndentation: boolean;
  readonly #findings: Finding[] = [];
  readonly #open: OpenBlock[] = [];
  #at = 0;
  #gaveUp = false;

  constructor(text: string, { byIndentation }: { readonly byIndentation: boolean }) {
    this.#text = text;
    this.#byIndentation = byIndentation;
  }

  run(): Outline {
    return { statements: this.#statements(), findings: this.#findings };
  }

  /** Statements up to the `}` that ends their block, which is left to be taken, or to the end of the text. */
  #statements(): readonly Statement[] {
    const statements: Statement[] = [];
    for (let piece = this.#peek(); piece !== undefined; piece = this.#peek()) {
      if (SEPARATORS.has(piece.kind)) {
        this.#take(piece);
      } else if (this.#open.length > 0 && this.#endsBlock(piece)) {
        return statements;
      } else if (piece.kind === 'close-brace') {
        this.#take(piece);
        this.#findings.push({
          code: 'syntax',
          message: 'this `}` closes nothing',
          span: piece,
          hint: 'remove it, or look for a `}` too many above it',
        });
      } else {
        statements.push(this.#statement());
      }
    }
    return statements;
  }

  #statement(): Statement {
    const start = this.#at;
    const pieces: Piece[] = [];
    let block: Block | null = null;
    let end = start;
    for (let piece = this.#peek(); piece !== undefined; piece = this.#peek()) {
      if (piece.kind === 'newline' && !isContinued(pieces)) break;
      if (piece.kind === 'semicolon' || piece.kind === 'close-brace') break;
      if (piece.kind === 'open-brace') {
        const found = this.#block(pieces);
        // A block after `/-` is commented out, and a second one is a mistake that kdljs will find.
        if (pieces.at(-1)?.kind !== 'slashdash' && block === null) block = found;
        pieces.push({ kind: 'open-brace', ...found.span, unclosed: !found.closed });
        end = found.span.end;
        if (!found.closed || this.#startsOther(block)) break;
        continue;
      }
      this.#take(piece);
      if (piece.kind === 'newline') pieces.pop();
      if (SEPARATORS.has(piece.kind)) continue;
      pieces.push(piece);
      end = piece.end;
    }
    return { span: { start, end }, pieces, block };
  }

  #block(pieces: readonly Piece[]): Block {
    const start = this.#at;
    const line = this.#lineStart(start);
    const first = pieces[0];
    const word = first === undefined ? '' : this.#text.slice(first.start, first.end);
    const depth = this.#open.push({ start, line, indent: this.#indent(line), word });
    this.#at += 1;
    if (depth > MAX_DEPTH) this.#giveUp();
    const statements = this.#statements();
    const piece = this.#peek();
    const closed = piece?.kind === 'close-brace' && !this.#closesOuter(piece);
    if (closed) this.#take(piece);
    else if (!this.#gaveUp) {
      this.#findings.push({
        code: 'syntax',
        message: OPEN_BRACE,
        span: { start, end: start + 1 },
        hint: 'add the missing `}`',
      });
    }
    this.#open.length = depth - 1;
    return {
      span: { start, end: closed ? this.#at : Math.max(start + 1, statements.at(-1)?.span.end ?? 0) },
      closed,
      statements,
    };
  }

  /** No VMFile is nested like this, and every level takes its share of the stack. */
  #giveUp(): void {
    const message = `blocks are nested more than ${MAX_DEPTH} deep`;
    this.#findings.push({ code: 'syntax', message, span: { start: this.#at - 1, end: this.#at } });
    this.#at = this.#text.length;
    this.#gaveUp = true;
  }

  /** After a block, another node on the same line: it must have been meant as one. */
  #startsOther(block: Block | null): boolean {
    const space = this.#peek();
    if (block === null) return false;
    if (space?.kind === 'space') this.#take(space);
    const piece = this.#peek();
    if (piece?.kind !== 'word' && piece?.kind !== 'string') return false;
    this.#findings.push({
      code: 'syntax',
      message: 'nothing can follow the `}` of a node on its line',
      span: { start: piece.start, end: piece.end },
      hint: 'start a new line, or put a `;` between',
    });
    return true;
  }

  #endsBlock(piece: Piece): boolean {
    return piece.kind === 'close-brace' || (this.#byIndentation && this.#startsNext(piece));
  }

  /** A `}` at the start of a line, further left than the line that opened the block, belongs to an outer block. */
  #closesOuter(piece: Piece): boolean {
    const top = this.#open.at(-1);
    if (!this.#byIndentation || top === undefined || this.#open.length < 2) return false;
    const line = this.#lineStart(piece.start);
    if (line === top.line || !this.#isFirstOnLine(piece, line)) return false;
    return piece.start - line < top.indent && this.#open.some((outer) => outer.indent <= piece.start - line);
  }

  /**
   * A node that starts a line and stands as far left as the line that opened the block is beside it, not in it; if only
   * the outermost block is open, also the word must be the same, because not everybody indents.
   */
  #startsNext(piece: Piece): boolean {
    const line = this.#lineStart(piece.start);
    if (!this.#isFirstOnLine(piece, line)) return false;
    const indent = piece.start - line;
    const [top, outer, outermost] = [this.#open.at(-1), this.#open.at(-2), this.#open[0]];
    if (top === undefined || outermost === undefined || line === top.line) return false;
    if (outer !== undefined && outer.indent < indent && indent <= top.indent) return true;
    return indent <= outermost.indent && this.#text.slice(piece.start, piece.end) === outermost.word;
  }

  #peek(): Piece | undefined {
    return pieceAt(this.#text, this.#at);
  }

  #take(piece: Piece): void {
    this.#at = piece.end;
    if (!piece.unclosed) return;
    const span = {
      start: piece.start,
      end: piece.start + (piece.kind === 'comment' ? 2 : openingLength(this.#text, piece)),
    };
    if (piece.kind === 'comment') {
      this.#findings.push({ code: 'syntax', message: OPEN_COMMENT, span, hint: 'add the missing `*/`' });
    } else this.#findings.push(unclosedString(this.#text, piece));
  }

  #lineStart(offset: number): number {
    let start = offset;
    while (start > 0 && !/[\n\r]/.test(this.#text.charAt(start - 1))) start -= 1;
    return start;
  }

  #indent(line: number): number {
    return (/^[ \t]*/.exec(this.#text.slice(line, line + 200))?.[0] ?? '').length;
  }

  #isFirstOnLine(piece: Piece, line: number): boolean {
    return this.#text.slice(line, piece.start).trim() === '';
  }
}

function isContinued(pieces: readonly Piece[]): boolean {
  return pieces.at(-1)?.kind === 'backslash';
}

function openingLength(text: string, piece: Piece): number {
  return /^#*(?:"""|")/.exec(text.slice(piece.start, piece.end))?.[0].length ?? 1;
}

function unclosedString(text: string, piece: Piece): Finding {
  const opening = text.slice(piece.start, piece.start + openingLength(text, piece));
  const closing = opening.split('').toReversed().join('');
  const isMultiLine = opening.includes('"""');
  return {
    code: 'syntax',
    message: isMultiLine ? OPEN_MULTI_LINE : 'this string is never closed',
    span: { start: piece.start, end: isMultiLine ? piece.start + opening.length : piece.end },
    hint: isMultiLine ? `add the missing \`${closing}\` on a line of its own` : `add the missing \`${closing}\``,
  };
}
