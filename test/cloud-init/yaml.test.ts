import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { block, quoted } from '../../src/cloud-init/yaml.js';

/** Characters that mean something in YAML or break lines in one of its versions. */
const nasty = fc.constantFrom(
  ...['"', "'", '\\', '\n', '\r', '\t', ' ', ': ', ' #', '- ', '|', '>', '%', '@', '`', '{{', '${x}', '\0', '\u001b'],
  ...['\u007f', '\u0085', '\u009f', '\u00a0', '\u2028', '\u2029', '\ufeff', '\ufffe', '\uffff', '😀', 'ü', '日本'],
);
const text = fc.array(fc.oneof(nasty, fc.string({ unit: 'binary' }))).map((parts) => parts.join(''));

const parsers = [
  ['1.1', (document: string): unknown => parse(document, { version: '1.1' })],
  ['1.2', (document: string): unknown => parse(document, { version: '1.2' })],
] as const;

describe.each(parsers)('in YAML %s', (_, read) => {
  test('a quoted string is read as exactly this string', () => {
    fc.assert(
      fc.property(text, (value) => {
        expect(read(`key: ${quoted(value)}\nnext: 1`)).toEqual({ key: value, next: 1 });
      }),
    );
  });

  test('a block is read as exactly this string', () => {
    const lines = fc.array(
      fc.oneof(fc.string(), fc.constantFrom('', ' ', 'a', '- b', 'c: d', ' e', '#', '...', '---')),
    );
    const texts = fc.oneof(
      text,
      lines.map((parts) => parts.join('\n')),
      lines.map((parts) => `${parts.join('\n')}\n`),
    );
    fc.assert(
      fc.property(texts, (value) => {
        expect(read(`a:\n  key: ${block(value, '  ')}\nb: 1`)).toEqual({ a: { key: value }, b: 1 });
      }),
      { numRuns: 500 },
    );
  });
});

test('a quoted string is one line of printable characters', () => {
  fc.assert(
    fc.property(text, (value) => {
      expect(quoted(value)).toMatch(/^"[\u0020-\u007e\u00a0-\u2027\u202a-\ufefe\uff00-\ufffd]*"$/);
    }),
  );
});

test('a lone surrogate becomes the replacement character, as it does in UTF-8', () => {
  expect(quoted('a\ud83d')).toBe('"a\ufffd"');
  expect(quoted('\ude00b')).toBe('"\ufffdb"');
  expect(quoted('\ud83d\ude00')).toBe('"😀"');
});
