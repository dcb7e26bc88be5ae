/** The words for an event that a person watches while it goes on. */
import type { VmEvent } from '../src/model/event.js';

const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB'] as const;

/** `420 MiB`, `1.5 GiB`: three significant digits at most, binary units. */
export function bytesText(bytes: number): string {
  let value = bytes;
  let unit = 0;
  while (value >= 1024 && unit < UNITS.length - 1) {
    value /= 1024;
    unit += 1;
  }
  const digits = unit === 0 || value >= 100 ? value.toFixed(0) : value.toFixed(1);
  return `${digits.replace(/\.0$/, '')} ${UNITS[unit]}`;
}

/** `850 ms`, `12.3 s`, `2 min 5 s`. */
export function durationText(milliseconds: number): string {
  if (milliseconds < 1000) return `${Math.round(milliseconds)} ms`;
  const seconds = milliseconds / 1000;
  if (seconds < 60) return `${seconds.toFixed(1)} s`;
  const minutes = Math.floor(seconds / 60);
  return `${minutes} min ${Math.round(seconds - minutes * 60)} s`;
}

/** What an event that is still going on says; null for one that ends a step or begins it. */
export function progressText(event: VmEvent): string | null {
  if (event.type === 'status') return event.text;
  if (event.type === 'log') return event.line;
  if (event.type !== 'progress') return null;
  if (event.totalBytes === null) return bytesText(event.bytes);
  const percent = event.totalBytes === 0 ? 100 : Math.floor((event.bytes / event.totalBytes) * 100);
  return `${bytesText(event.bytes)} of ${bytesText(event.totalBytes)} (${percent} %)`;
}
