/** What illumos tells of a process in `/proc/<pid>/psinfo` (proc(5)), where `ps` has no start time that stays the same. */
import type { Buffer } from 'node:buffer';

/** `psinfo_t` of a 64-bit reader (illumos-gate, `sys/procfs.h`): `pr_start` is seconds and nanoseconds at byte 88. */
const START_OFFSET = 88;
const SHORTEST = 240;
/** `pr_nlwp`, the number of threads that are no zombies, is 0 for a zombie. */
const THREADS_OFFSET = 4;

/** When the process started; null for a zombie, or a file that is none of these. */
export function startTimeOf(psinfo: Buffer): string | null {
  if (psinfo.length < SHORTEST || psinfo.readInt32LE(THREADS_OFFSET) === 0) return null;
  return `${psinfo.readBigInt64LE(START_OFFSET)}.${psinfo.readBigInt64LE(START_OFFSET + 8)}`;
}
