import { expect, test } from 'vitest';
import type { VmEvent, VmEventBody } from '../../src/model/event.js';
import { bytesText, durationText, printable, progressReader } from '../../tasks/progress-text.js';

function event(time: number, body: VmEventBody): VmEvent {
  return { time, vm: 'web', step: 'resolve', ...body };
}

test.each([
  [0, '0 B'],
  [1023, '1023 B'],
  [1024, '1 KiB'],
  [1_500_000, '1.4 MiB'],
  [440_401_920, '420 MiB'],
  [2 ** 40, '1 TiB'],
])('%d bytes are %s', (bytes, text) => {
  expect(bytesText(bytes)).toBe(text);
});

test.each([
  [0, '0 ms'],
  [999, '999 ms'],
  [59_949, '59.9 s'],
  [59_960, '1 min 0 s'],
  [125_000, '2 min 5 s'],
])('%d milliseconds are %s', (milliseconds, text) => {
  expect(durationText(milliseconds)).toBe(text);
});

test('a download tells its bytes, its share and its rate since the first bytes were seen', () => {
  const read = progressReader();
  const MIB = 1024 * 1024;
  expect(read(event(1000, { type: 'progress', bytes: 10 * MIB, totalBytes: 40 * MIB }))).toBe(
    '10 MiB of 40 MiB (25 %)',
  );
  expect(read(event(3000, { type: 'progress', bytes: 20 * MIB, totalBytes: 40 * MIB }))).toBe(
    '20 MiB of 40 MiB (50 %), 5 MiB/s',
  );
  expect(read(event(4000, { type: 'progress', bytes: 25 * MIB, totalBytes: null }))).toBe('25 MiB, 5 MiB/s');
});

test('what a guest prints cannot move the cursor or ring the bell of the terminal it is shown on', () => {
  expect(printable('\u001b[2J\u001b[31mred\u001b[0m\u0007 \u009b5A\tend')).toBe('red     end');
});
