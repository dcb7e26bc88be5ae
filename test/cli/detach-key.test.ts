import { Buffer } from 'node:buffer';
import { expect, test } from 'vitest';
import { splitAtDetachKey } from '../../src/cli/detach-key.js';

test.each([
  ['', '', false],
  ['ls\r', 'ls\r', false],
  ['\u001d', '', true],
  ['exit\u001d', 'exit', true],
  ['\u001drm -rf /\r', '', true],
  ['a\u001db\u001dc', 'a', true],
  // Ctrl-C, Ctrl-D, Ctrl-Z, Ctrl-\ and Ctrl-^ are the guest's.
  ['\u0003\u0004\u001a\u001c\u001e', '\u0003\u0004\u001a\u001c\u001e', false],
  // A letter whose UTF-8 has the key's code in its last six bits.
  ['ĝ\u009d', 'ĝ\u009d', false],
])('of %j the guest is given %j, and detaching is %s', (typed, before, detaches) => {
  const split = splitAtDetachKey(Buffer.from(typed));
  expect({ ...split, before: Buffer.from(split.before).toString() }).toEqual({ before, detaches });
});
