import type { RenderOptions } from '../../src/errors.js';
import { describe, expect, it } from 'vitest';
import type { Span } from '../../src/model/source.js';
import {
  type Diagnostic,
  diagnosticsToJson,
  Findings,
  hasErrors,
  renderDiagnostics,
  summarize,
} from '../../src/vmfile/diagnostic.js';
import { LineIndex } from '../../src/vmfile/line-index.js';
import { sourceOf } from './report.js';

/** The place of some words in a text. */
function placeOf(text: string, words: string): Span {
  const start = text.indexOf(words);
  expect(start).toBeGreaterThanOrEqual(0);
  return { start, end: start + words.length };
}

function finding(span: Span, more: Partial<Diagnostic> = {}): Diagnostic {
  return { severity: 'error', code: 'syntax', message: 'wrong', span, label: null, labels: [], hint: null, ...more };
}

function render(text: string, diagnostics: readonly Diagnostic[], options: Partial<RenderOptions> = {}): string {
  return renderDiagnostics(sourceOf(text), diagnostics, { color: false, cwd: '/project', ...options });
}

describe('a finding', () => {
  it('shows the line with the place underlined, what is beside it, and the hint', () => {
    const text = 'vm "a" {\n    vcpus 0\n}\n';
    const shown = render(text, [finding(placeOf(text, '0'), { label: 'too few', hint: 'take 1' })]);
    expect(shown).toBe(
      [
        'VMFile.kdl:2:11: error: wrong',
        '  2 |     vcpus 0',
        '    |           ^ too few',
        '  hint: take 1',
        '',
        '1 error',
      ].join('\n'),
    );
  });

  it('shows other places in the order of the source, and dots where lines are left out', () => {
    const text = 'a\nb\nc\nd\n';
    const labels = [
      { span: placeOf(text, 'd'), text: 'last' },
      { span: placeOf(text, 'a'), text: 'first' },
    ];
    expect(render(text, [finding(placeOf(text, 'c'), { labels })])).toBe(
      [
        'VMFile.kdl:3:1: error: wrong',
        '  1 | a',
        '    | - first',
        ' ...',
        '  3 | c',
        '    | ^',
        '  4 | d',
        '    | - last',
        '',
        '1 error',
      ].join('\n'),
    );
  });

  it('that goes over several lines is underlined on the first', () => {
    const text = 'vm "a" {\n  x\n}\n';
    expect(render(text, [finding({ start: 7, end: text.length })])).toContain('  1 | vm "a" {\n    |        ^\n');
  });

  it.each([
    ['\tvcpus\t0', '0', '  1 |     vcpus   0', '    |             ^'],
    ['/* 日本 */ x', 'x', '  1 | /* 日本 */ x', '    |            ^'],
    ['"日本" x', '"日本"', '  1 | "日本" x', '    | ^^^^^^'],
    ['e\u0301 x', 'x', '  1 | e\u0301 x', '    |   ^'],
    ['👩‍👩‍👧 x', 'x', '  1 | 👩‍👩‍👧 x', '    |    ^'],
    ['a\u001b[31m x', 'x', '  1 | a\uFFFD[31m x', '    |        ^'],
    ['a\u202eb x', 'x', '  1 | a\uFFFDb x', '    |     ^'],
  ])('is underlined to the column in %j', (text, words, line, underline) => {
    const [, ...rows] = render(text, [finding(placeOf(text, words))]).split('\n');
    expect(rows.slice(0, 2)).toStrictEqual([line, underline]);
  });

  it('at the end of the text is shown behind its last line', () => {
    const text = 'vm "a" {';
    const shown = render(text, [finding({ start: 8, end: 8 })]);
    expect(shown).toContain('VMFile.kdl:1:9: error: wrong\n  1 | vm "a" {\n    |         ^\n');
  });

  it('on an empty line has no frame', () => {
    expect(render('\n\n', [finding({ start: 1, end: 1 })])).toBe('VMFile.kdl:2:1: error: wrong\n\n1 error');
  });

  it('in a long line shows what is around it', () => {
    const text = `${'a'.repeat(300)} here ${'b'.repeat(300)}`;
    const [, line, underline] = render(text, [finding(placeOf(text, 'here'))], { width: 40 }).split('\n');
    expect(line).toBe('  1 | …aaaaaaaaaa here bbbbbbbbbbbbbbbb…');
    expect(underline).toBe('    |             ^^^^');
    expect((line ?? '').length).toBeLessThanOrEqual(40);
  });

  it('longer than the window is cut with it', () => {
    const text = `x "${'a'.repeat(300)}"`;
    const [, line, underline] = render(text, [finding({ start: 2, end: text.length })], { width: 40 }).split('\n');
    expect((line ?? '').length).toBeLessThanOrEqual(40);
    expect((underline ?? '').length).toBeLessThanOrEqual(40);
    expect(underline).toMatch(/^ {4}\| +\^{20,}$/);
  });

  it('does not send the control characters of a message to the terminal', () => {
    const shown = render('x', [finding({ start: 0, end: 1 }, { message: 'a\u001b[2Jb', hint: 'c\u0007' })]);
    expect(shown.split('\n').filter((line) => /\p{Cc}/u.test(line))).toStrictEqual([]);
    expect(shown).toContain('a\uFFFD[2Jb');
  });

  it('is coloured when that is wanted, also where nothing is a terminal', () => {
    const shown = render('vcpus 0', [finding({ start: 6, end: 7 }, { hint: 'take 1' })], { color: true });
    expect(shown.split('\n')).toStrictEqual([
      'VMFile.kdl:1:7: \u001b[31m\u001b[1merror\u001b[22m\u001b[39m: \u001b[1mwrong\u001b[22m',
      '\u001b[2m  1 |\u001b[22m vcpus 0',
      '\u001b[2m    |\u001b[22m       \u001b[31m^\u001b[39m',
      '  \u001b[36mhint:\u001b[39m take 1',
      '',
      '1 error',
    ]);
  });

  it('names the file relative to a folder only where that is shorter', () => {
    const wrong = [finding({ start: 0, end: 1 })];
    expect(render('x', wrong, { cwd: '/project/sub' })).toMatch(/^\.\.\/VMFile\.kdl:1:1/);
    expect(render('x', wrong, { cwd: '/a/b/c/d/e/f/g' })).toMatch(/^\/project\/VMFile\.kdl:1:1/);
    expect(renderDiagnostics(sourceOf('x'), wrong, { color: false })).toMatch(/^\/project\/VMFile\.kdl:1:1/);
  });
});

describe('several findings', () => {
  it('are shown in source order with a count of each kind', () => {
    const shown = render('a b c', [
      finding({ start: 4, end: 5 }, { message: 'third' }),
      finding({ start: 0, end: 1 }, { message: 'first', severity: 'warning' }),
      finding({ start: 2, end: 3 }, { message: 'second' }),
    ]);
    const messages = shown.split('\n').filter((line) => line.startsWith('VMFile'));
    expect(messages).toStrictEqual([
      'VMFile.kdl:1:1: warning: first',
      'VMFile.kdl:1:3: error: second',
      'VMFile.kdl:1:5: error: third',
    ]);
    expect(shown.endsWith('\n\n2 errors, 1 warning')).toBe(true);
  });

  it('that are none are no text', () => {
    expect(render('a', [])).toBe('');
    expect(summarize([])).toBe('');
  });

  it('are errors as soon as one is', () => {
    const findings = new Findings();
    findings.warning({ code: 'insecure', message: 'w', span: { start: 0, end: 0 } });
    expect(hasErrors(findings.diagnostics)).toBe(false);
    findings.error({ code: 'missing', message: 'e', span: { start: 0, end: 0 } });
    expect(hasErrors(findings.diagnostics)).toBe(true);
  });
});

describe('findings as JSON', () => {
  it('have lines and columns from 1, columns in characters and the end behind the last one', () => {
    const text = 'a\r\n😀 "日本" x\r\n';
    const [json] = diagnosticsToJson(sourceOf(text), [finding(placeOf(text, '"日本"'), { hint: 'h' })]);
    expect(json).toStrictEqual({
      file: '/project/VMFile.kdl',
      line: 2,
      column: 3,
      endLine: 2,
      endColumn: 7,
      severity: 'error',
      code: 'syntax',
      message: 'wrong',
      hint: 'h',
    });
  });
});

describe('lines', () => {
  it.each(['a\nb\nc', 'a\r\nb\r\nc', 'a\rb\rc'])('of %j end alike', (text) => {
    const lines = new LineIndex(text);
    expect(lines.position(text.indexOf('b'))).toStrictEqual({ line: 2, column: 1 });
    expect(lines.position(text.length)).toStrictEqual({ line: 3, column: 2 });
    const { start, end } = lines.span(2);
    expect(text.slice(start, end)).toBe('b');
  });
});
