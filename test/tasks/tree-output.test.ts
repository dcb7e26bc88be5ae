import { expect, test } from 'vitest';
import { TreeOutput, erasureOf } from '../../tasks/tree-output.js';

const row = '\u001b[2K';
const up = '\u001b[1A';
/** As log-update erases what it has printed (ansi-escapes, eraseLines). */
const erase = (rows: number) => `${`${row}${up}`.repeat(rows - 1)}${row}\u001b[G`;

test.each([
  ['', 80, 1],
  ['one\ntwo\n', 80, 3],
  [`${'x'.repeat(40)}\n`, 40, 2],
  [`${'x'.repeat(41)}\n`, 40, 3],
  [`${'x'.repeat(100)}\n\nshort\n`, 40, 6],
  // Colours take no room, and a wide character takes two columns.
  [`\u001b[32m${'x'.repeat(40)}\u001b[39m\n`, 40, 2],
  [`${'漢'.repeat(21)}\n`, 40, 3],
])('of %j in %d columns %d rows are erased', (text, columns, rows) => {
  expect(erasureOf(text, columns)).toBe(erase(rows));
});

test('an update erases all rows of the one before, also when the window has become narrower', () => {
  const { stream, take } = fakeTerminal();
  const output = new TreeOutput(stream);
  output.hijack();
  take();
  const wide = `${'x'.repeat(90)}\n`;
  output.stdout.write(wide);
  expect(take()).toBe(wide);
  stream.columns = 40;
  output.stdout.write(`${erase(2)}narrow\n`);
  expect(take()).toBe(`${erase(4)}narrow\n`);
  expect(output.stdout.columns).toBe(40);
});

test('what others print meanwhile appears at once, above the tree', () => {
  const { stream, take } = fakeTerminal();
  const output = new TreeOutput(stream);
  output.hijack();
  output.stdout.write('tree\n');
  take();
  stream.write('Interrupted');
  expect(take()).toBe(`${erase(2)}Interrupted\ntree\n`);
  stream.write('\u001b[?25l');
  expect(take()).toBe('\u001b[?25l');
  output.release();
  take();
  stream.write('afterwards\n');
  expect(take()).toBe('afterwards\n');
});

/** A terminal that keeps what is written to it. */
function fakeTerminal() {
  let written = '';
  const stream: NodeJS.WriteStream = Object.assign(Object.create(process.stderr), { columns: 100, rows: 30 });
  stream.write = (chunk: string | Uint8Array) => {
    written += String(chunk);
    return true;
  };
  const take = () => {
    const text = written;
    written = '';
    return text;
  };
  return { stream, take };
}
