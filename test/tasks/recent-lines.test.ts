import { expect, test } from 'vitest';
import { recentLines } from '../../tasks/recent-lines.js';

test.each([
  ['', ''],
  ['one\r\ntwo\r\nthree\r\n', 'two\nthree\n'],
  ['one\r\ntwo\r\nlogin: ', 'two\nlogin: '],
  ['10 %\r50 %\r100 %\r\ndone\r\n', '100 %\ndone\n'],
  ['\u001b[?2004h\u001b[32mroot@web\u001b[0m:~# ', 'root@web:~# '],
  // Repeated, these would have the terminal report its cursor to the guest, or ring.
  ['\u0007where\u001b[6n\u001b[c', 'where'],
])('of %j there is shown %j', (text, shown) => {
  expect(recentLines(text, 2)).toBe(shown);
});
