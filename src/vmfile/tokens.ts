/**
 * KDL 2 text cut into pieces that never fail to fit: broken strings, stray characters and unknown words are pieces
 * too. Used only where kdljs has refused a document, to find out what is wrong and what can still be read.
 */
import type { Span } from '../model/source.js';

export type PieceKind =
  | 'word'
  | 'string'
  | 'space'
  | 'newline'
  | 'comment'
  | 'slashdash'
  | 'semicolon'
  | 'equals'
  | 'open-brace'
  | 'close-brace'
  | 'open-parenthesis'
  | 'close-parenthesis'
  | 'backslash';

export interface Piece extends Span {
  readonly kind: PieceKind;
  /** A string or a comment that does not end. */
  readonly unclosed: boolean;
}

const NEWLINE = /\r\n|[\n\r\v\f\u0085\u2028\u2029]/y;
const SPACE = /[\t \u00A0\u1680\u2000-\u200A\u202F\u205F\u3000]+/y;
const PUNCTUATION: Readonly<Record<string, PieceKind>> = {
  ';': 'semicolon',
  '=': 'equals',
  '{': 'open-brace',
  '}': 'close-brace',
  '(': 'open-parenthesis',
  ')': 'close-parenthesis',
  '\\': 'backslash',
};
// `#` is in words so that `#true` is one, and `/` so that `a/b` is, where it does not start a comment.
const WORD =
  /(?:(?!\/[/*-])[^\t \u00A0\u1680\u2000-\u200A\u202F\u205F\u3000\n\r\v\f\u0085\u2028\u2029;={}()\\"#]|#(?!#*"))+/y;

/** The piece that starts at an offset of the text; undefined at its end. */
export function pieceAt(text: string, start: number): Piece | undefined {
  const character = text[start];
  if (character === undefined) return undefined;
  const piece = (kind: PieceKind, end: number, unclosed = false): Piece => ({ kind, start, end, unclosed });
  const newline = matchAt(NEWLINE, text, start);
  if (newline !== null) return piece('newline', start + newline.length);
  const space = matchAt(SPACE, text, start);
  if (space !== null) return piece('space', start + space.length);
  const punctuation = PUNCTUATION[character];
  if (punctuation !== undefined) return piece(punctuation, start + 1);
  if (text.startsWith('/-', start)) return piece('slashdash', start + 2);
  if (text.startsWith('//', start)) return piece('comment', lineEnd(text, start));
  if (text.startsWith('/*', start)) return blockComment(text, start);
  const hashes = matchAt(/#*(?=")/y, text, start);
  if (hashes !== null) return string(text, { start, hashes });
  return piece('word', start + (matchAt(WORD, text, start)?.length ?? 1));
}

/** Where the line of an offset ends, its line end left out. */
export function lineEnd(text: string, offset: number): number {
  const ends = /[\n\r\v\f\u0085\u2028\u2029]/g;
  ends.lastIndex = offset;
  return ends.exec(text)?.index ?? text.length;
}

function blockComment(text: string, start: number): Piece {
  const edges = /\/\*|\*\//g;
  edges.lastIndex = start;
  let depth = 0;
  for (let edge = edges.exec(text); edge !== null; edge = edges.exec(text)) {
    depth += edge[0] === '/*' ? 1 : -1;
    if (depth === 0) return { kind: 'comment', start, end: edges.lastIndex, unclosed: false };
  }
  return { kind: 'comment', start, end: text.length, unclosed: true };
}

// A backslash takes the next character with it; before a line break it lets the string go on.
const QUOTED = /"(?:[^"\\\n\r\v\f\u0085\u2028\u2029]+|\\\s+|\\\S)*/y;
const MULTI_LINE = /"""(?:[^"\\]+|\\[^]|"(?!""))*/y;

function string(text: string, { start, hashes }: { readonly start: number; readonly hashes: string }): Piece {
  const open = start + hashes.length;
  const quotes = text.startsWith('"""', open) ? '"""' : '"';
  const end = contentEnd(text, { open, quotes, hashes });
  if (text.startsWith(quotes + hashes, end)) {
    return { kind: 'string', start, end: end + quotes.length + hashes.length, unclosed: false };
  }
  const limit = quotes === '"' ? beforeClosers(text, { start: open + 1, limit: end }) : text.length;
  return { kind: 'string', start, end: limit, unclosed: true };
}

/** Where the closing quotes of a string are, or where it stops being one. */
function contentEnd(
  text: string,
  { open, quotes, hashes }: { readonly open: number; readonly quotes: string; readonly hashes: string },
): number {
  if (hashes === '') return open + (matchAt(quotes === '"' ? QUOTED : MULTI_LINE, text, open)?.length ?? 1);
  const close = text.indexOf(quotes + hashes, open + quotes.length);
  const limit = quotes === '"' ? lineEnd(text, open) : text.length;
  return close === -1 || close > limit ? limit : close;
}

/** Where a string that is never closed was probably meant to end: before the braces that end its line. */
function beforeClosers(text: string, { start, limit }: { readonly start: number; readonly limit: number }): number {
  const closers = /[\s;]*\}[\s;}]*$/.exec(text.slice(start, limit));
  return closers === null ? limit : start + closers.index;
}

function matchAt(pattern: RegExp, text: string, start: number): string | null {
  pattern.lastIndex = start;
  return pattern.exec(text)?.[0] ?? null;
}
