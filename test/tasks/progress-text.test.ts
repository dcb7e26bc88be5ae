import { expect, test } from 'vitest';
import type { VmEvent, VmEventBody } from '../../src/model/event.js';
import { bytesText, durationText, printable, progressReader, rateReader } from '../../tasks/progress-text.js';

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

test('a download tells its bytes, its share, its rate and how long the rest will take', () => {
  const read = progressReader();
  const MIB = 1024 * 1024;
  expect(read(event(1000, { type: 'progress', bytes: 10 * MIB, totalBytes: 40 * MIB }))).toBe(
    '10 MiB of 40 MiB (25 %)',
  );
  expect(read(event(3000, { type: 'progress', bytes: 20 * MIB, totalBytes: 40 * MIB }))).toBe(
    '20 MiB of 40 MiB (50 %), 5 MiB/s, 4 s left',
  );
  expect(read(event(4000, { type: 'progress', bytes: 25 * MIB, totalBytes: null }))).toBe('25 MiB, 5 MiB/s');
  expect(read(event(7000, { type: 'progress', bytes: 40 * MIB, totalBytes: 40 * MIB }))).toBe(
    '40 MiB of 40 MiB (100 %), 5 MiB/s',
  );
});

test('the rate is that of the last ten seconds', () => {
  const read = rateReader();
  const seconds = Array.from({ length: 21 }, (_, second) => second);
  // 10 MiB a second at first, and 1 MiB a second from then on.
  const at = (second: number) => 1024 * 1024 * (second <= 10 ? 10 * second : 100 + (second - 10));
  const said = seconds.map((second) => read({ time: second * 1000, bytes: at(second), totalBytes: 10 * 2 ** 30 }));
  expect(said[10]).toBe('100 MiB of 10 GiB (0 %), 10 MiB/s, 16 min 54 s left');
  expect(said[20]).toBe('110 MiB of 10 GiB (1 %), 1 MiB/s, 2 h 48 min left');
});

test('what a guest prints cannot move the cursor or ring the bell of the terminal it is shown on', () => {
  expect(printable('\u001b[2J\u001b[31mred\u001b[0m\u0007 \u009b5A\tend')).toBe('red     end');
});
