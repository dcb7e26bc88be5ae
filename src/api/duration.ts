/** Times as the API takes them. */
import { VmctlError } from '../errors.js';
import { parseDuration } from '../vmfile/sizes.js';

/** Milliseconds, or text with units such as `'10s'`, `'2m'` or `'1h30m'`. */
export type Duration = number | string;

/** Timers cannot wait longer (Node.js, `setTimeout`). */
const LONGEST_MS = 2 ** 31 - 1;

/** Milliseconds. Throws `USAGE`, naming the option. */
export function milliseconds(value: Duration, option: string): number {
  const parsed = typeof value === 'string' ? parseDuration(value) : null;
  const ms = parsed === null ? value : parsed.ok ? parsed.value * 1000 : Number.NaN;
  if (typeof ms === 'number' && ms >= 0 && ms <= LONGEST_MS) return ms;
  const found = typeof value === 'string' ? JSON.stringify(value) : String(value);
  const message = `${option} takes milliseconds, or text such as "10s" or "2m", of 24 days at most, not ${found}`;
  throw new VmctlError('USAGE', message, { fields: { option } });
}
