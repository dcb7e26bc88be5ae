import { Buffer } from 'node:buffer';
import { describe, expect, test } from 'vitest';
import { startTimeOf } from '../../src/util/illumos-process.js';

function psinfo(threads: number): Buffer {
  const bytes = Buffer.alloc(416);
  bytes.writeInt32LE(threads, 4);
  bytes.writeBigInt64LE(1_760_000_000n, 88);
  bytes.writeBigInt64LE(123_456_789n, 96);
  return bytes;
}

describe('a process of illumos', () => {
  test('is told apart by the moment at which it started', () => {
    expect(startTimeOf(psinfo(3))).toBe('1760000000.123456789');
  });

  test('that is a zombie, or cannot be read, has no start', () => {
    expect(startTimeOf(psinfo(0))).toBeNull();
    expect(startTimeOf(Buffer.alloc(10))).toBeNull();
  });
});
