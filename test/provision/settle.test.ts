import { expect, test } from 'vitest';
import { settleScript } from '../../src/provision/settle.js';

const facts = { now: 0, random: new Uint8Array(1) };

test('a guest is saved only when its boot is over, and is not held up by that when it goes on', () => {
  const wait = 'systemctl is-system-running --wait';
  expect(settleScript({ ...facts, beforeSaving: true })).toContain(wait);
  expect(settleScript({ ...facts, beforeSaving: false })).not.toContain(wait);
});
