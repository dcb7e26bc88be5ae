import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { getLocation, InvalidKdlError, type Node, parse, type Value } from '@bgotink/kdl';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type KdlResult, parseKdl } from '../../src/vmfile/kdl.js';
import type { KdlNode } from '../../src/vmfile/kdl-tree.js';
import { BROKEN_DOCUMENTS, DOCUMENTS } from './kdl-documents.js';

/** What both parsers can say of a node. */
interface Seen {
  readonly name: string;
  readonly type: string | null;
  readonly place: string;
  readonly entries: readonly (readonly [name: string | null, type: string | null, value: string, place: string])[];
  readonly children: readonly Seen[];
}

function ours({ name, type, entries, children }: KdlNode): Seen {
  return {
    name: name.value,
    type: type?.value ?? null,
    place: `${name.span.start}-${name.span.end}`,
    entries: entries.map((entry) => {
      const { value, span, type: annotation } = entry.value;
      const key = entry.kind === 'property' ? entry.name.value : null;
      // The other parser counts the type annotation of an argument to its value.
      const start = (key === null ? annotation?.span.start : undefined) ?? span.start;
      return [key, annotation?.value ?? null, show(value), `${start}-${span.end}`];
    }),
    children: children.map(ours),
  };
}

function theirs(node: Node): Seen {
  return {
    name: node.getName(),
    type: node.getTag(),
    place: placeOf(node.name),
    entries: node.entries.map((entry) => [
      entry.getName(),
      entry.getTag(),
      show(entry.getValue()),
      placeOf(entry.value),
    ]),
    children: (node.children?.nodes ?? []).map(theirs),
  };
}

function placeOf(element: Value | Node['name']): string {
  const location = getLocation(element);
  return `${location?.start.offset}-${location?.end.offset}`;
}

/** Infinity and NaN, which JSON does not have, included. */
function show(value: string | number | boolean | null): string {
  return typeof value === 'number' ? String(value) : JSON.stringify(value);
}

function readByOther(text: string): readonly Seen[] | null {
  try {
    return parse(text, { storeLocations: true }).nodes.map(theirs);
  } catch (error) {
    if (error instanceof InvalidKdlError) return null;
    throw error;
  }
}

function seenIn(result: KdlResult): readonly Seen[] | null {
  return result.ok ? result.nodes.map(ours) : null;
}

const fixtures = ['valid', 'broken'].flatMap((kind) => {
  const folder = join(import.meta.dirname, '../fixtures/vmfile', kind);
  const files = readdirSync(folder).filter((file) => file.endsWith('.kdl'));
  return files.map((file) => [`${kind}/${file}`, readFileSync(join(folder, file), 'utf8')] as const);
});

describe('names, values and places', () => {
  it.each(DOCUMENTS)('of %j are those that another KDL 2 parser sees', (text) => {
    const seen = seenIn(parseKdl(text));
    expect(seen).not.toBeNull();
    expect(seen).toStrictEqual(readByOther(text));
  });

  it.each(fixtures)('of %s are those that another KDL 2 parser sees', (_file, text) => {
    expect(seenIn(parseKdl(text))).toStrictEqual(readByOther(text));
  });

  it('of generated documents are those that another KDL 2 parser sees', () => {
    fc.assert(
      fc.property(document(), (text) => {
        const seen = seenIn(parseKdl(text));
        expect(seen).not.toBeNull();
        expect(seen).toStrictEqual(readByOther(text));
      }),
      { numRuns: 500 },
    );
  });
});

describe('what is not KDL 2', () => {
  it.each(BROKEN_DOCUMENTS)('such as %j is refused by both parsers', (text) => {
    expect(readByOther(text)).toBeNull();
    expect(parseKdl(text).ok).toBe(false);
  });

  it('is refused at a place inside of the text', () => {
    for (const text of BROKEN_DOCUMENTS) {
      const result = parseKdl(text, 100);
      if (result.ok) throw new Error(`${text} was accepted`);
      expect(result.span.start).toBeGreaterThanOrEqual(100);
      expect(result.span.end).toBeGreaterThanOrEqual(result.span.start);
      expect(result.span.end).toBeLessThanOrEqual(100 + text.length);
    }
  });

  it('is decided alike for random sequences of tokens', () => {
    const tokens = [
      'a',
      'b',
      '"x"',
      ' ',
      ' ',
      ' ',
      '{',
      '}',
      '\n',
      ';',
      '=',
      '/-',
      '1',
      '(t)',
      '#true',
      '\\\n',
      '//c\n',
    ];
    fc.assert(
      fc.property(fc.array(fc.constantFrom(...tokens), { maxLength: 10 }), (parts) => {
        const text = parts.join('');
        expect(seenIn(parseKdl(text))).toStrictEqual(readByOther(text));
      }),
      { numRuns: 2000 },
    );
  });
});

describe('the spans of nodes', () => {
  const text = '(t)vm "web" count=2 {\n  memory 1 // x\n}\n';
  const result = parseKdl(text, 0);
  const [vm] = result.ok ? result.nodes : [];

  it('cover a node with its type and its block, but not the line end', () => {
    expect(text.slice(vm?.span.start, vm?.span.end)).toBe('(t)vm "web" count=2 {\n  memory 1 // x\n}');
    expect(text.slice(vm?.head.start, vm?.head.end)).toBe('(t)vm "web" count=2');
    expect(text.slice(vm?.block?.start, vm?.block?.end)).toBe('{\n  memory 1 // x\n}');
    const [memory] = vm?.children ?? [];
    expect(text.slice(memory?.span.start, memory?.span.end)).toBe('memory 1');
  });

  it('count from the offset that is given', () => {
    const shifted = parseKdl(text, 1000);
    expect(shifted.ok && shifted.nodes[0]?.name.span).toStrictEqual({ start: 1003, end: 1005 });
  });
});

describe('nesting', () => {
  it('thousands of blocks deep is refused instead of exhausting the stack', () => {
    const depth = 50_000;
    const result = parseKdl(`${'a {\n'.repeat(depth)}${'}\n'.repeat(depth)}`);
    expect(result).toMatchObject({ ok: false, message: 'nested too deeply' });
  });
});

/** Valid documents, with every way of writing strings and numbers. */
function document(): fc.Arbitrary<string> {
  const word = fc.stringMatching(/^[a-zA-Zé_][a-z0-9_.-]{0,6}$/).filter((text) => !KEYWORDS.has(text));
  const quoted = fc.string({ unit: 'grapheme', maxLength: 8 }).map((text) => quote(text));
  const raw = fc.stringMatching(/^[a-z \\'{}]{0,8}$/).map((text) => `#"${text}"#`);
  const multiLine = fc
    .array(fc.stringMatching(/^[a-z ]{0,6}$/), { maxLength: 3 })
    .map((lines) => `"""\n${lines.map((line) => `  ${line}\n`).join('')}  """`);
  const string = fc.oneof(word, quoted, raw, multiLine);
  const number = fc.oneof(
    fc.integer().map(String),
    // Not hexadecimal ones: the other parser ends some of them one character too late.
    fc.nat().map((value) => `0b${value.toString(2)}`),
    fc.double({ noNaN: true, noDefaultInfinity: true }).map(decimal),
  );
  const keyword = fc.constantFrom('#true', '#false', '#null', '#inf', '#-inf', '#nan');
  const type = fc.option(word, { nil: null }).map((tag) => (tag === null ? '' : `(${tag})`));
  const value = fc.tuple(type, fc.oneof(string, number, keyword)).map((parts) => parts.join(''));
  const entry = fc.oneof(
    value,
    fc.tuple(string, value).map(([key, inner]) => `${key}=${inner}`),
    value.map((inner) => `/-${inner}`),
  );
  const space = fc.constantFrom(' ', '  ', '\t', ' /* x */ ', ' \\\n  ');
  const end = fc.constantFrom('\n', '\r\n', ';', ' // x\n');
  const { nodes } = fc.letrec<{ nodes: string; node: string }>((tie) => ({
    nodes: fc.array(tie('node'), { maxLength: 4, depthIdentifier: 'kdl' }).map((list) => list.join('')),
    node: fc
      .tuple(
        type,
        string,
        fc.array(fc.tuple(space, entry), { maxLength: 4 }),
        fc.option(tie('nodes'), { nil: null, depthIdentifier: 'kdl' }),
        end,
      )
      .map(([tag, title, entries, children, last]) => {
        const block = children === null ? '' : ` {${children}}`;
        return `${tag}${title}${entries.map((pair) => pair.join('')).join('')}${block}${last}`;
      }),
  }));
  return nodes;
}

const KEYWORDS: ReadonlySet<string> = new Set(['true', 'false', 'null', 'inf', 'nan']);

function quote(text: string): string {
  const escaped = Array.from(text, (character) =>
    /[\p{L}\p{N}\p{Emoji_Presentation} ]/u.test(character)
      ? character
      : `\\u{${(character.codePointAt(0) ?? 0).toString(16)}}`,
  );
  return `"${escaped.join('')}"`;
}

function decimal(value: number): string {
  const text = String(value);
  return text.includes('e') ? text.replace('e+', 'e') : text;
}
