/** What is wrong inside of a string that ends where it should. */
import type { Span } from '../model/source.js';
import type { Finding } from './diagnostic.js';

/** Every mistake in a quoted, raw or multi-line string. */
export function explainString(text: string, span: Span): readonly Finding[] {
  const written = text.slice(span.start, span.end);
  const opening = /^(#*)("""|")/.exec(written);
  if (opening === null) return [];
  const [{ length }, hashes = '', quotes = ''] = opening;
  const inner = { start: span.start + length, end: span.end - length };
  return [
    ...(hashes === '' ? explainEscapes(text, inner) : []),
    ...explainCharacters(text, { inner, raw: hashes !== '' }),
    ...(quotes === '"""' ? explainLayout(text, { inner, closing: quotes + hashes }) : []),
  ];
}

function explainEscapes(text: string, inner: Span): readonly Finding[] {
  const findings: Finding[] = [];
  for (const match of text.slice(inner.start, inner.end).matchAll(/\\(?:u(?:\{[^}"]*\}?)?|\s+|[^])/gu)) {
    const [escape] = match;
    const reason = wrongEscape(escape);
    if (reason === null) continue;
    const start = inner.start + match.index;
    findings.push({ code: 'syntax', span: { start, end: start + escape.length }, ...reason });
  }
  return findings;
}

function wrongEscape(escape: string): { readonly message: string; readonly hint: string } | null {
  if (/^\\(?:[nrt\\"bfs]|\s+)$/.test(escape)) return null;
  if (!escape.startsWith('\\u')) {
    return {
      message: `\`${escape}\` is not an escape of KDL`,
      hint: `a backslash is written twice: \\${escape}`,
    };
  }
  const digits = /^\\u\{([0-9a-fA-F]{1,6})\}$/.exec(escape)?.[1];
  if (digits === undefined) {
    return {
      message: `\`${escape}\` is not an escape of KDL`,
      hint: 'a character is written by its number: \\u{1F600}',
    };
  }
  const code = Number.parseInt(digits, 16);
  const isCharacter = code <= 0x10ffff && (code < 0xd800 || code > 0xdfff);
  return isCharacter
    ? null
    : {
        message: `there is no character U+${digits.toUpperCase()}`,
        hint: 'the last one is U+10FFFF, and U+D800 to U+DFFF are none',
      };
}

// oxlint-disable-next-line no-control-regex -- these are the characters that KDL 2 forbids
const FORBIDDEN = /[\0-\x08\x0E-\x1F\x7F\u200E\u200F\u202A-\u202E\u2066-\u2069\uFEFF]|\p{Cs}/gu;

function explainCharacters(
  text: string,
  { inner, raw }: { readonly inner: Span; readonly raw: boolean },
): readonly Finding[] {
  return Array.from(text.slice(inner.start, inner.end).matchAll(FORBIDDEN), (match) => {
    const code = (match[0].codePointAt(0) ?? 0).toString(16).toUpperCase().padStart(4, '0');
    const start = inner.start + match.index;
    return {
      code: 'syntax',
      message: `the character U+${code} cannot stand in a string as it is`,
      span: { start, end: start + match[0].length },
      hint: raw ? 'remove it' : `remove it, or write \\u{${code}}`,
    };
  });
}

/** A multi-line string starts and ends with a line break, and no line is further left than its closing quotes. */
function explainLayout(
  text: string,
  { inner, closing }: { readonly inner: Span; readonly closing: string },
): readonly Finding[] {
  const lines = linesOf(text.slice(inner.start, inner.end), inner.start);
  const [first] = lines;
  const last = lines.at(-1);
  if (first === undefined || last === undefined) return [];
  if (lines.length < 2 || first.text !== '') {
    const message = 'the text of a multi-line string starts on the line after its opening quotes';
    const hint = lines.length < 2 ? 'for a single line write one quote on each side' : 'break the line before this';
    return [{ code: 'syntax', span: endOf(first), message, hint }];
  }
  if (last.text.trim() !== '') {
    const message = `the closing \`${closing}\` must stand on a line of its own`;
    return [{ code: 'syntax', span: endOf(last), message, hint: 'break the line after this' }];
  }
  return lines
    .slice(1, -1)
    .filter((line) => line.text.trim() !== '' && !line.text.startsWith(last.text))
    .map((line) => ({
      code: 'syntax',
      message: `this line is not indented like the closing \`${closing}\``,
      span: { start: line.start, end: line.start + Math.max(1, line.text.length - line.text.trimStart().length) },
      hint: 'indent every line at least as far, with the same spaces or tabs',
    }));
}

interface Line {
  readonly start: number;
  readonly text: string;
}

function endOf({ start, text }: Line): Span {
  return { start, end: start + text.length };
}

const LINE_END = /\r\n|[\n\r\v\f\u0085\u2028\u2029]/g;

function linesOf(body: string, offset: number): readonly Line[] {
  const lines: Line[] = [];
  let start = 0;
  for (const end of body.matchAll(LINE_END)) {
    lines.push({ start: offset + start, text: body.slice(start, end.index) });
    start = end.index + end[0].length;
  }
  return [...lines, { start: offset + start, text: body.slice(start) }];
}
