import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Span } from '../../src/model/source.js';
import { parseVmFile } from '../../src/vmfile/parse.js';
import { pieceAt } from '../../src/vmfile/tokens.js';
import { faultsOf } from './faults.js';
import { sourceOf } from './report.js';

function read(kind: string): readonly string[] {
  const folder = join(import.meta.dirname, '../fixtures/vmfile', kind);
  const files = readdirSync(folder).filter((file) => file.endsWith('.kdl'));
  return files.map((file) => readFileSync(join(folder, file), 'utf8'));
}

const valid = read('valid');

/** The text as tokens, each word and each string on its own. */
function tokensOf(text: string): readonly Span[] {
  const tokens: Span[] = [];
  for (let piece = pieceAt(text, 0); piece !== undefined; piece = pieceAt(text, piece.end)) tokens.push(piece);
  return tokens;
}

const change = fc.oneof(
  fc.constant(''),
  fc.constantFrom(
    '"',
    '"""',
    '#"',
    '{',
    '}',
    '(',
    ')',
    '=',
    '\\',
    '/-',
    '/*',
    '//',
    ';',
    '\n',
    '\r',
    'true',
    '4G',
    'r"x"',
  ),
  fc.string({ unit: 'binary', maxLength: 4 }),
);

describe('a valid VMFile of which one token is changed', () => {
  it.each(valid.map((text, index) => [index, text] as const))('(number %i) can lose any token', (_index, text) => {
    const texts = tokensOf(text).map(({ start, end }) => text.slice(0, start) + text.slice(end));
    expect(texts.flatMap(faultsOf)).toStrictEqual([]);
  });

  it.each(valid.map((text, index) => [index, text] as const))('(number %i) can end anywhere', (_index, text) => {
    const texts = tokensOf(text).map(({ start }) => text.slice(0, start));
    expect(texts.flatMap(faultsOf)).toStrictEqual([]);
  });

  it('never makes the reader fail, and never leads outside of the file', () => {
    const cases = valid.map((text) => ({ text, tokens: tokensOf(text) }));
    fc.assert(
      fc.property(fc.constantFrom(...cases), fc.nat(), change, ({ text, tokens }, index, instead) => {
        const token = tokens[index % tokens.length];
        const changed = text.slice(0, token?.start) + instead + text.slice(token?.end);
        expect(faultsOf(changed)).toStrictEqual([]);
      }),
      { numRuns: 300 },
    );
  });

  it('keeps what is wrong elsewhere visible', () => {
    const others = 'vm "a" {\n    image "disk.qcow2"\n    vcpus 0\n}\n';
    const broken = 'vm "b" {\n    image "disk.qcow2"\n    memory 4G\n    disk "x\n}\n';
    const messages = parseVmFile(sourceOf(broken + others)).diagnostics.map((diagnostic) => diagnostic.message);
    expect(messages).toStrictEqual([
      '`4G` is not a number',
      'this string is never closed',
      '`vcpus` takes an integer from 1 to 1024, not the number 0',
    ]);
  });
});

describe('any text at all', () => {
  it('is read without failing', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary', maxLength: 40 }), (text) => {
        expect(faultsOf(text)).toStrictEqual([]);
      }),
    );
  });

  it('made of pieces of KDL is read without failing', () => {
    const pieces = [
      'vm ',
      '"a"',
      ' {',
      '}',
      '\n',
      ';',
      '=',
      '/-',
      '(',
      ')',
      '\\',
      '"',
      '"""',
      '#',
      '/*',
      '*/',
      '//',
      '1',
      'x',
      ' ',
      '\r\n',
      '\t',
    ];
    fc.assert(
      fc.property(fc.array(fc.constantFrom(...pieces), { maxLength: 20 }), (parts) => {
        expect(faultsOf(parts.join(''))).toStrictEqual([]);
      }),
      { numRuns: 300 },
    );
  });

  it('of the corpus can be cut off anywhere', () => {
    fc.assert(
      fc.property(fc.constantFrom(...read('broken')), fc.nat(), (text, length) => {
        expect(faultsOf(text.slice(0, length % (text.length + 1)))).toStrictEqual([]);
      }),
      { numRuns: 300 },
    );
  });
});

describe('deep nesting', () => {
  it('is an error, not a crash', () => {
    const depth = 20_000;
    const { diagnostics } = parseVmFile(sourceOf(`${'vm {\n'.repeat(depth)}${'}\n'.repeat(depth)}`));
    const [first] = diagnostics.filter(({ code }) => code === 'syntax');
    expect(first).toMatchObject({ message: 'blocks are nested more than 100 deep', span: { start: 503, end: 504 } });
  });
});
