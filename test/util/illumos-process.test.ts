import { Buffer } from 'node:buffer';
import { describe, expect, test } from 'vitest';
import { startTimeOf } from '../../src/util/illumos-process.js';

/** `psinfo_t` for a 64-bit reader, field by field with their sizes (illumos-gate, `usr/src/uts/common/sys/procfs.h`). */
const PSINFO: readonly (readonly [name: string, bytes: number, alignment?: number])[] = [
  ['pr_flag', 4],
  ['pr_nlwp', 4],
  ['pr_pid', 4],
  ['pr_ppid', 4],
  ['pr_pgid', 4],
  ['pr_sid', 4],
  ['pr_uid', 4],
  ['pr_euid', 4],
  ['pr_gid', 4],
  ['pr_egid', 4],
  ['pr_addr', 8],
  ['pr_size', 8],
  ['pr_rssize', 8],
  ['pr_pad1', 8],
  ['pr_ttydev', 8],
  ['pr_pctcpu', 2],
  ['pr_pctmem', 2],
  // A timestruc_t: seconds and nanoseconds.
  ['pr_start', 16, 8],
  ['pr_time', 16, 8],
  ['pr_ctime', 16, 8],
];

/** Where C puts a field: at the next multiple of its alignment. */
function offsetOf(wanted: string): number {
  let at = 0;
  for (const [name, bytes, alignment = bytes] of PSINFO) {
    at = Math.ceil(at / alignment) * alignment;
    if (name === wanted) return at;
    at += bytes;
  }
  throw new Error(`psinfo_t has no ${wanted}`);
}

function psinfo(threads: number): Buffer {
  const bytes = Buffer.alloc(416);
  bytes.writeInt32LE(threads, offsetOf('pr_nlwp'));
  bytes.writeBigInt64LE(1_760_000_000n, offsetOf('pr_start'));
  bytes.writeBigInt64LE(123_456_789n, offsetOf('pr_start') + 8);
  bytes.writeBigInt64LE(77n, offsetOf('pr_time'));
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
