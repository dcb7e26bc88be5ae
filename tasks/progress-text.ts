/** The words for an event that a person watches while it goes on. */
import { stripVTControlCharacters } from 'node:util';
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
  if (milliseconds < 59_950) return `${(milliseconds / 1000).toFixed(1)} s`;
  const seconds = Math.round(milliseconds / 1000);
  return `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
}

/**
 * A reader for the events of one step: gives the words for what is going on, with the rate since its first progress;
 * null for an event that begins or ends the step.
 */
export function progressReader(): (event: VmEvent) => string | null {
  const read = rateReader();
  return (event) => {
    if (event.type === 'status') return event.text;
    if (event.type === 'log') return printable(event.line);
    return event.type === 'progress' ? read(event) : null;
  };
}

/** How far something is at a time in milliseconds. */
export interface Progress {
  readonly time: number;
  readonly bytes: number;
  readonly totalBytes: number | null;
}

/** `212 MiB of 420 MiB (50 %), 31 MiB/s`, with the rate since the first progress that was read. */
export function rateReader(): (progress: Progress) => string {
  let first: { readonly time: number; readonly bytes: number } | null = null;
  return ({ time, bytes, totalBytes }) => {
    first ??= { time, bytes };
    return `${amountText(bytes, totalBytes)}${rateText(bytes - first.bytes, time - first.time)}`;
  };
}

/** A guest's line without what would move the cursor, change colours or ring the bell of the terminal it is shown on. */
export function printable(line: string): string {
  return stripVTControlCharacters(line)
    .replaceAll('\t', '    ')
    .replaceAll(/\p{Cc}/gu, '');
}

function amountText(bytes: number, totalBytes: number | null): string {
  if (totalBytes === null) return bytesText(bytes);
  const percent = totalBytes === 0 ? 100 : Math.floor((bytes / totalBytes) * 100);
  return `${bytesText(bytes)} of ${bytesText(totalBytes)} (${percent} %)`;
}

function rateText(bytes: number, milliseconds: number): string {
  return milliseconds < 200 ? '' : `, ${bytesText((bytes / milliseconds) * 1000)}/s`;
}
