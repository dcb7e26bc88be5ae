import { Buffer } from 'node:buffer';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { LineSplitter } from '../../src/ssh/line-splitter.js';

function split(chunks: readonly (string | Uint8Array)[], longest?: number): readonly string[] {
  const lines: string[] = [];
  const splitter = new LineSplitter((line) => lines.push(line), longest);
  for (const chunk of chunks) splitter.push(Buffer.from(chunk));
  splitter.end();
  return lines;
}

describe('LineSplitter', () => {
  it.each<[string, readonly string[], readonly string[]]>([
    ['nothing', [], []],
    ['one line', ['a\n'], ['a']],
    ['a last line without a line break', ['a\nb'], ['a', 'b']],
    ['empty lines', ['\n\na\n\n'], ['', '', 'a', '']],
    ['lines cut into chunks', ['a', 'b\nc', 'd\n'], ['ab', 'cd']],
    ['line breaks of Windows and of terminals', ['a\r\nb\r\r\nc\r\n'], ['a', 'b', 'c']],
    ['a line break cut in two', ['a\r', '\nb\r', '\n'], ['a', 'b']],
    ['a progress bar', [' 10 %', '\r 50 %', '\r100 %\nnext\n'], ['100 %', 'next']],
    ['a progress bar that ends with a carriage return', [' 10 %\r 50 %\r'], [' 50 %']],
    ['a progress bar in one chunk', ['1\r2\r3\r\n'], ['3']],
    ['nothing after a carriage return', ['\r'], []],
  ])('tells %s', (_what, chunks, lines) => {
    expect(split(chunks)).toEqual(lines);
  });

  it('tells a line as soon as it is complete', () => {
    const lines: string[] = [];
    const splitter = new LineSplitter((line) => lines.push(line));
    splitter.push(Buffer.from('a\nb'));
    expect(lines).toEqual(['a']);
  });

  it('puts characters together that were cut', () => {
    const bytes = Buffer.from('grüße 🎉\n');
    expect(split([...bytes].map((byte) => Uint8Array.of(byte)))).toEqual(['grüße 🎉']);
  });

  it('replaces what is not UTF-8', () => {
    expect(split([Uint8Array.of(0x61, 0xff, 0x62, 0x0a, 0xc3)])).toEqual(['a\ufffdb', '\ufffd']);
  });

  it('tells a very long line in pieces, and loses nothing', () => {
    expect(split(['abcdefgh', 'ij\nk'], 4)).toEqual(['abcd', 'efgh', 'ij', 'k']);
  });

  it('does not grow with a progress bar that never ends its line', () => {
    const lines: string[] = [];
    const splitter = new LineSplitter((line) => lines.push(line), 16);
    for (let percent = 0; percent <= 100; percent += 1) splitter.push(Buffer.from(`\r${percent} %`));
    splitter.end();
    expect(lines).toEqual(['100 %']);
  });

  it('gives the same lines however the bytes are cut', () => {
    const text = fc.array(fc.constantFrom('a', 'ß', '🎉', '\n', '\r', '\r\n', ' '), { maxLength: 40 });
    fc.assert(
      fc.property(text, fc.array(fc.nat(60)), (parts, cuts) => {
        const bytes = Buffer.from(parts.join(''));
        const places = [0, ...cuts.filter((cut) => cut < bytes.length), bytes.length].toSorted((a, b) => a - b);
        const chunks = places.slice(1).map((end, index) => bytes.subarray(places[index], end));
        expect(split(chunks)).toEqual(split([bytes]));
      }),
    );
  });

  it('gives back the lines that were joined', () => {
    const line = fc.string({ unit: 'grapheme' }).map((text) => text.replaceAll(/[\r\n]/g, ''));
    fc.assert(
      fc.property(fc.array(line), (lines) => {
        expect(split([lines.map((text) => `${text}\n`).join('')])).toEqual(lines);
      }),
    );
  });
});
