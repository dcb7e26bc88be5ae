/** What is wrong with a word that stands outside of quotes. */
import type { Span } from '../model/source.js';
import type { Finding } from './diagnostic.js';
import { didYouMean } from './suggest.js';

const KEYWORDS = ['true', 'false', 'null', 'inf', '-inf', 'nan'];
const NUMBER =
  /^[+-]?(?:\d[\d_]*(?:\.\d[\d_]*)?(?:[eE][+-]?\d[\d_]*)?|0x[\da-fA-F][\da-fA-F_]*|0o[0-7][0-7_]*|0b[01][01_]*)$/;

/** True for the numbers of KDL 2, `#inf` and the like aside. */
export function isNumber(word: string): boolean {
  return NUMBER.test(word);
}

interface Word {
  readonly word: string;
  readonly span: Span;
  readonly isName: boolean;
}

/** The reason why a word is neither a bare string, nor a number, nor a keyword; null when it is one of them. */
export function explainWord({ word, span, isName }: Word): Finding | null {
  const finding = (message: string, hint: string): Finding => {
    return { code: 'syntax', message, span: { start: span.start, end: span.end }, hint };
  };
  const inQuotes = `put it in quotes: "${word}"`;
  if (KEYWORDS.includes(word)) {
    return finding(`\`${word}\` without a \`#\` is KDL 1; a VMFile is KDL 2`, isName ? inQuotes : `write #${word}`);
  }
  if (/[[\]]/.test(word)) {
    const hint = 'a list is its values one after the other: depends-on "a" "b"';
    return finding('`[` and `]` can only stand inside of quotes', hint);
  }
  if (word.startsWith('#')) {
    if (KEYWORDS.includes(word.slice(1))) return null;
    const keywords = KEYWORDS.map((keyword) => `#${keyword}`);
    const hint = didYouMean(word, keywords) ?? 'a comment starts with `//`; text stands in quotes';
    return finding(`\`${word}\` is not a keyword of KDL`, hint);
  }
  if (/^[+-]?\.?\d/.test(word)) {
    if (isNumber(word)) return null;
    const bare = word.replace(/,$/, '');
    if (isNumber(bare)) return comma({ start: span.start + bare.length, end: span.end });
    return finding(`\`${word}\` is not a number`, inQuotes);
  }
  const [hidden] = word.matchAll(HIDDEN);
  if (hidden !== undefined) {
    const code = (hidden[0].codePointAt(0) ?? 0).toString(16).toUpperCase().padStart(4, '0');
    const start = span.start + hidden.index;
    const message = `the character U+${code}, which cannot be seen, is not allowed here`;
    return { code: 'syntax', message, span: { start, end: start + hidden[0].length }, hint: 'remove it' };
  }
  const special = /[/#]/.exec(word)?.[0];
  return special === undefined ? null : finding(`a word with a \`${special}\` must stand in quotes`, inQuotes);
}

/** Characters that KDL does not allow in a bare word and that nobody sees. */
export const HIDDEN = /[\p{Cc}\p{Cs}\u200E\u200F\u202A-\u202E\u2066-\u2069\uFEFF]/gu;

/** Other formats separate values by commas. */
export function comma({ start, end }: Span): Finding {
  const message = 'values are separated by spaces, not by commas';
  return { code: 'syntax', message, span: { start, end }, hint: 'remove the comma' };
}
