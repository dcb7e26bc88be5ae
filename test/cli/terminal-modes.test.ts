import { Buffer } from 'node:buffer';
import { expect, test } from 'vitest';
import { TerminalModes } from '../../src/cli/terminal-modes.js';

function undoOf(...pieces: readonly string[]): string {
  const modes = new TerminalModes();
  for (const piece of pieces) modes.see(Buffer.from(piece));
  return modes.undo();
}

test.each([
  ['plain text', 'hello\r\n', ''],
  ['a hidden cursor', '\u001b[?25l', '\u001b[?25h'],
  ['a cursor that is shown again', '\u001b[?25l text \u001b[?25h', ''],
  ['the other screen', '\u001b[?1049h', '\u001b[?1049l'],
  ['several modes at once', '\u001b[?1000;1006h', '\u001b[?1000l\u001b[?1006l'],
  ['lines that no longer wrap', '\u001b[?7l', '\u001b[?7h'],
  ['pasting in brackets', '\u001b[?2004h', '\u001b[?2004l'],
  ['a colour', '\u001b[1;31mred', '\u001b[0m'],
  ['a colour that has ended', '\u001b[1;31mred\u001b[0m \u001b[32mgreen\u001b[m', ''],
  ['a scrolling region', '\u001b[5;20r', '\u001b7\u001b[r\u001b8'],
  ['a region that has ended', '\u001b[5;20r\u001b[r', ''],
  ['the keypad', '\u001b=', '\u001b>'],
  ['line drawing', '\u001b(0', '\u001b(B'],
  ['the other character set', '\u000e', '\u000f'],
  ['a reset of everything', '\u001b[?1049h\u001b[31m\u001bc', ''],
])('%s is undone, if it has to be', (_what, printed, undo) => {
  expect(undoOf(printed)).toBe(undo);
});

test('a sequence is seen wherever it is cut', () => {
  const printed = 'text\u001b[?1049;25h\u001b[?25l\u001b[31mx';
  const whole = undoOf(printed);
  expect(whole).toBe('\u001b[?1049l\u001b[?25h\u001b[0m');
  for (let at = 1; at < printed.length; at += 1) expect(undoOf(printed.slice(0, at), printed.slice(at))).toBe(whole);
  expect(undoOf(...printed.split(''))).toBe(whole);
});
