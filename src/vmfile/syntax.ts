/** What is wrong with a node that kdljs refuses, in plain words, with the exact place of each mistake. */
import type { Located, Span } from '../model/source.js';
import type { Finding } from './diagnostic.js';
import type { Statement } from './outline.js';
import { explainString } from './syntax-strings.js';
import { comma, explainWord, HIDDEN, isNumber } from './syntax-words.js';
import type { Piece } from './tokens.js';

/** One piece of a node and what is around it. */
interface Here {
  readonly piece: Piece;
  /** The text of the piece. */
  readonly written: string;
  /** The pieces at a distance from this one. */
  readonly at: (distance: number) => Piece | undefined;
  readonly textOf: (piece: Span) => string;
  readonly index: number;
  /** Where the name of the node is. */
  readonly nameIndex: number;
}

/** Everything that is recognisably wrong with a node's own text; empty where nothing is recognised. */
export function explainStatement(text: string, { pieces }: Statement): readonly Finding[] {
  const findings: Finding[] = [];
  const nameIndex = nameIndexOf(pieces);
  for (const [index, piece] of pieces.entries()) {
    const here: Here = {
      piece,
      written: text.slice(piece.start, piece.end),
      at: (distance) => pieces[index + distance],
      textOf: ({ start, end }) => text.slice(start, end),
      index,
      nameIndex,
    };
    if (piece.kind === 'word' && isHashes(here.written)) {
      const rest = { start: piece.start, end: pieces.at(-1)?.end ?? piece.end };
      return [...findings, syntax(rest, 'a comment starts with `//`, not with `#`')];
    }
    const found = explainPiece(here);
    // Brackets and commas seldom come alone; one word about them is enough.
    if (found !== null && !findings.some(({ message }) => message === found.message)) findings.push(found);
    if (found === null && piece.kind === 'string' && !piece.unclosed) findings.push(...explainString(text, piece));
  }
  return findings;
}

/** The name of a node, if it can be told in spite of what is wrong with it. */
export function nameOf(text: string, { pieces }: Statement): Located<string> | null {
  const piece = pieces[nameIndexOf(pieces)];
  if (!isValue(piece) || piece.unclosed) return null;
  const written = text.slice(piece.start, piece.end);
  const value = piece.kind === 'string' ? written.replace(/^#*"|"#*$/g, '') : written.replace(HIDDEN, '');
  return isNumber(value) || isHashes(value) ? null : { value, span: { start: piece.start, end: piece.end } };
}

/** Behind `/-` and a type annotation. */
function nameIndexOf(pieces: readonly Piece[]): number {
  const start = pieces[0]?.kind === 'slashdash' ? 1 : 0;
  return pieces[start]?.kind === 'open-parenthesis' ? start + 3 : start;
}

function explainPiece(here: Here): Finding | null {
  for (const rule of RULES) {
    const finding = rule(here);
    if (finding !== null) return finding;
  }
  return null;
}

const RULES: readonly ((here: Here) => Finding | null)[] = [
  oldRawString,
  afterBlock,
  wrongName,
  ({ piece, written, index, nameIndex }) =>
    piece.kind === 'word' ? explainWord({ word: written, span: piece, isName: index === nameIndex }) : null,
  missingSpace,
  lonelyEquals,
  parentheses,
  backslash,
  danglingSlashDash,
];

function oldRawString({ piece, written, at, textOf }: Here): Finding | null {
  const next = at(1);
  if (written !== 'r' || next?.kind !== 'string' || next.start !== piece.end) return null;
  const string = textOf(next);
  const modern = string.startsWith('#') ? string : `#${string}#`;
  const span = { start: piece.start, end: next.end };
  return syntax(span, 'this is a raw string of KDL 1; a VMFile is KDL 2', `write it without the r: ${modern}`);
}

function afterBlock({ piece, at }: Here): Finding | null {
  const isBlock = at(-1)?.kind === 'open-brace' && at(-2)?.kind !== 'slashdash';
  if (!isBlock || piece.kind === 'slashdash') return null;
  return syntax(piece, 'nothing can follow the `}` of a node', 'start a new line, or put a `;` between');
}

function wrongName({ piece, written, at, textOf, index, nameIndex }: Here): Finding | null {
  if (index !== nameIndex) return null;
  if (piece.kind === 'open-brace') {
    return syntax({ start: piece.start, end: piece.start + 1 }, 'this `{` belongs to no node');
  }
  if (piece.kind === 'equals') return syntax(piece, 'a node starts with its name, not with `=`');
  if (piece.kind === 'word' && isNumber(written)) {
    return syntax(piece, `a node starts with its name, and ${written} is a number`);
  }
  const [next, value] = [at(1), at(2)];
  if (next?.kind !== 'equals') return null;
  const instead = isValue(value) ? `${written} ${textOf(value)}` : written;
  const span = { start: piece.start, end: isValue(value) ? value.end : next.end };
  return syntax(span, 'a node and its value are separated by a space, not by `=`', `write ${instead}`);
}

function missingSpace({ piece, written, at, textOf, nameIndex, index }: Here): Finding | null {
  const previous = at(-1);
  if (!isValue(piece) || !isValue(previous) || previous.end !== piece.start) return null;
  const word = previous.kind === 'word' ? textOf(previous) : null;
  const isReported = word !== null && (word === 'r' || explainWord({ word, span: previous, isName: false }) !== null);
  if (isReported) return null;
  if (written.startsWith(',')) return comma(piece);
  const isAfterName = index === nameIndex + 1;
  const hint = isAfterName ? `write ${textOf(previous)} ${written}` : 'a quote inside of a string is written \\"';
  return syntax(piece, 'a space is missing before this', hint);
}

function lonelyEquals({ piece, at, textOf }: Here): Finding | null {
  if (piece.kind !== 'equals') return null;
  const [previous, next] = [at(-1), at(1)];
  if (!isValue(previous)) return syntax(piece, 'a name is missing before this `=`');
  const name = textOf(previous);
  if (isNumber(name)) return syntax(previous, `a property cannot be named by the number ${name}`);
  if (isValue(next) || next?.kind === 'open-parenthesis') return null;
  return syntax({ start: previous.start, end: piece.end }, `the property \`${name}\` has no value`);
}

function parentheses({ piece, at }: Here): Finding | null {
  const finding = syntax(piece, '`(` and `)` can only stand inside of quotes', 'put the text in quotes');
  if (piece.kind === 'open-parenthesis') {
    const isAnnotation = isValue(at(1)) && at(2)?.kind === 'close-parenthesis' && isValue(at(3));
    return isAnnotation && at(-1)?.end !== piece.start ? null : finding;
  }
  return piece.kind !== 'close-parenthesis' || at(-2)?.kind === 'open-parenthesis' ? null : finding;
}

function backslash({ piece }: Here): Finding | null {
  if (piece.kind !== 'backslash') return null;
  const message = 'a `\\` outside of quotes goes on with the node on the next line, so nothing can follow it';
  return syntax(piece, message, 'put the text in quotes, with every backslash doubled');
}

function danglingSlashDash({ piece, at }: Here): Finding | null {
  if (piece.kind !== 'slashdash' || at(1) !== undefined) return null;
  const message = '`/-` comments out what follows it, and nothing follows';
  return syntax(piece, message, 'a comment up to the end of the line starts with `//`');
}

function syntax({ start, end }: Span, message: string, hint?: string): Finding {
  return { code: 'syntax', message, span: { start, end }, hint };
}

interface ValuePiece extends Piece {
  readonly kind: 'word' | 'string';
}

function isValue(piece: Piece | undefined): piece is ValuePiece {
  return piece?.kind === 'word' || piece?.kind === 'string';
}

function isHashes(word: string): boolean {
  return /^#+$/.test(word);
}
