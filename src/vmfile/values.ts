/** Readers of single values: what a node or property takes, and what to say when it is something else. */
import type { DiagnosticCode } from './diagnostic.js';
import type { KdlValue } from './kdl-tree.js';
import { oneLine, type Rule } from './names.js';
import type { Parsed } from './sizes.js';
import { GIB, MIB, parseDuration, parseSize } from './sizes.js';
import { didYouMean } from './suggest.js';

/** A value that could be read, or the reason why not; without a `problem`, it was not what is expected at all. */
export type Reading<T> =
  | { readonly ok: true; readonly value: T }
  | { readonly ok: false; readonly code: DiagnosticCode; readonly problem: string | null; readonly hint?: string };

export interface ValueReader<T> {
  /** What is taken, to follow "takes": `an integer from 1 to 1024`. */
  readonly expected: string;
  read(value: KdlValue): Reading<T>;
}

interface Range {
  readonly minimum: number;
  readonly maximum: number;
}

/** A text that a rule accepts. `expected` names it: `a path`. */
export function text(expected: string, rule: Rule, hint?: string): ValueReader<string> {
  return {
    expected,
    read(value) {
      if (typeof value.value !== 'string') return wrongType(quoteHint(value));
      if (value.text.startsWith("'")) return singleQuotes(value.text);
      const reason = rule(value.value);
      if (reason === null) return { ok: true, value: value.value };
      return {
        ok: false,
        code: 'invalid-value',
        problem: `${shorten(JSON.stringify(value.value))} cannot be ${expected}: ${reason}`,
        ...(hint === undefined ? {} : { hint }),
      };
    },
  };
}

/** A number without fraction or exponent, within a range. */
export function integer(range: Range, unit = ''): ValueReader<number> {
  const expected = `an integer from ${range.minimum} to ${range.maximum}${unit}`;
  return { expected, read: (value) => readInteger(value, range) };
}

/** A path, as it is written. */
export const path = text('a path', oneLine);

/** A TCP port. */
export const port = integer({ minimum: 1, maximum: 65_535 });

/** One of some words. */
export function choice<const T extends string>(words: readonly T[]): ValueReader<T> {
  const expected = listOf(words.map((word) => `"${word}"`));
  return {
    expected,
    read(value) {
      const found = words.find((word) => word === value.value);
      if (found !== undefined) return { ok: true, value: found };
      if (typeof value.value !== 'string') return wrongType();
      const hint = didYouMean(value.value, words, '"');
      return { ok: false, code: 'unknown-value', problem: null, ...(hint === undefined ? {} : { hint }) };
    },
  };
}

/** `#true`, `#false` or one of the words. */
export function flagOr<const T extends string>(words: readonly T[]): ValueReader<boolean | T> {
  const word = choice(words);
  return {
    expected: `#true, #false or ${word.expected}`,
    read: (value) => (typeof value.value === 'boolean' ? { ok: true, value: value.value } : word.read(value)),
  };
}

const MAX_MEMORY_MIB = 16 * 2 ** 20;
const MAX_DISK_GIB = 2 ** 16;

/** Memory in MiB: an integer of MiB, or a quoted size that is a whole number of them. At most 16 TiB. */
export const memoryMib: ValueReader<number> = {
  expected: `an integer of MiB from 1 to ${MAX_MEMORY_MIB} or a quoted size such as "2GiB"`,
  read(value) {
    if (typeof value.value !== 'string') return readInteger(value, { minimum: 1, maximum: MAX_MEMORY_MIB });
    const size = parsed(parseSize(value.value), 'write a size such as "2GiB" or "512MiB", or a bare number of MiB');
    if (!size.ok) return size;
    const mib = size.value / MIB;
    if (!Number.isInteger(mib)) return outOfRange(`${value.text} is not a whole number of MiB`);
    if (mib < 1) return outOfRange(`${value.text} is no memory at all`);
    return mib > MAX_MEMORY_MIB ? outOfRange(`${value.text} is more than 16 TiB`) : { ok: true, value: mib };
  },
};

/** A disk size in bytes: an integer of GiB, or a quoted size of at least 1 MiB in whole sectors of 512 bytes. At most 64 TiB. */
export const diskBytes: ValueReader<number> = {
  expected: `an integer of GiB from 1 to ${MAX_DISK_GIB} or a quoted size such as "20GiB"`,
  read(value) {
    if (typeof value.value !== 'string') {
      const gib = readInteger(value, { minimum: 1, maximum: MAX_DISK_GIB });
      return gib.ok ? { ok: true, value: gib.value * GIB } : gib;
    }
    const size = parsed(parseSize(value.value), 'write a size such as "20GiB" or "512MiB", or a bare number of GiB');
    if (!size.ok) return size;
    if (size.value < MIB) return outOfRange(`${value.text} is less than 1 MiB`);
    if (size.value % 512 !== 0) return outOfRange(`${value.text} is not a whole number of 512-byte sectors`);
    return size.value > MAX_DISK_GIB * GIB ? outOfRange(`${value.text} is more than 64 TiB`) : size;
  },
};

const WEEK = 7 * 24 * 60 * 60;

/** Seconds: an integer, or a quoted duration. More than nothing and at most a week. */
export const seconds: ValueReader<number> = {
  expected: `an integer of seconds from 1 to ${WEEK} or a quoted duration such as "90s"`,
  read(value) {
    const range = { minimum: 1, maximum: WEEK };
    if (typeof value.value !== 'string') return readInteger(value, range);
    const duration = parsed(parseDuration(value.value), 'write a duration such as "90s", "2m" or "1h30m"');
    if (!duration.ok) return duration;
    if (duration.value === 0) return outOfRange(`${value.text} is no time at all`);
    return duration.value > WEEK ? outOfRange(`${value.text} is more than a week`) : duration;
  },
};

/** The value in the words of messages: `the string "two"`, `the number 1.5`, `#true`. */
export function describeValue(value: KdlValue): string {
  if (typeof value.value === 'string') return `the string ${shorten(JSON.stringify(value.value))}`;
  if (typeof value.value === 'number') return `the number ${value.text}`;
  return value.text;
}

/** `a, b or c`. */
export function listOf(words: readonly string[], conjunction = 'or'): string {
  if (words.length < 2) return words.join('');
  return `${words.slice(0, -1).join(', ')} ${conjunction} ${words.slice(-1).join('')}`;
}

/** To KDL a single quote is a letter like any other. */
function singleQuotes(written: string): Reading<never> {
  const hint = `write "${written.replace(/^'|'$/g, '')}"`;
  return { ok: false, code: 'invalid-value', problem: 'KDL puts text in double quotes, not in single ones', hint };
}

function readInteger(value: KdlValue, range: Range): Reading<number> {
  if (typeof value.value === 'string' && /^\d+$/.test(value.value))
    return wrongType(`write it without quotes: ${value.value}`);
  if (typeof value.value !== 'number') return wrongType();
  if (!/^[+-]?(?:\d[\d_]*|0[xob][\da-f_]+)$/i.test(value.text)) return wrongType();
  return inRange(value.value, range);
}

function inRange(number: number, { minimum, maximum }: Range): Reading<number> {
  if (number < minimum || number > maximum) return { ok: false, code: 'out-of-range', problem: null };
  return { ok: true, value: number };
}

function parsed<T>(result: Parsed<T>, hint: string): Reading<T> {
  return result.ok ? result : { ok: false, code: 'invalid-value', problem: result.problem, hint };
}

function outOfRange(problem: string): Reading<never> {
  return { ok: false, code: 'out-of-range', problem };
}

function wrongType(hint?: string): Reading<never> {
  return { ok: false, code: 'wrong-type', problem: null, ...(hint === undefined ? {} : { hint }) };
}

/** Numbers and keywords that were meant as text want quotes. */
function quoteHint(value: KdlValue): string | undefined {
  return value.value === null ? undefined : `write it in quotes: "${value.text.replace(/^#/, '')}"`;
}

function shorten(words: string): string {
  return words.length > 48 ? `${words.slice(0, 44)}…"` : words;
}
