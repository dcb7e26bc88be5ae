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

/** A path below the home directory as `~/…`, any other as it is. */
export function tildePath(path: string, home: string): string {
  return path.startsWith(`${home}/`) ? `~${path.slice(home.length)}` : path;
}

/**
 * A reader for the events of one step: gives the words for what is going on, with the rate of its progress; null for an event that begins or ends the step.
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

/** The rate is that of so many milliseconds before now, so that a line that became slower or faster is told as it is. */
const RATE_WINDOW_MS = 10_000;
const SHORTEST_RATE_MS = 200;
/** Nobody can tell from less how long the rest will take. */
const SHORTEST_FORECAST_MS = 1000;

/** `212 MiB of 420 MiB (50 %), 31 MiB/s, 7 s left`, with the rate of the last seconds. */
export function rateReader(): (progress: Progress) => string {
  const begun: Pick<Progress, 'time' | 'bytes'>[] = [];
  return ({ time, bytes, totalBytes }) => {
    begun.push({ time, bytes });
    while ((begun[1]?.time ?? time) <= time - RATE_WINDOW_MS) begun.shift();
    const since = begun[0] ?? { time, bytes };
    const [gained, elapsed] = [bytes - since.bytes, time - since.time];
    const words = [amountText(bytes, totalBytes)];
    if (elapsed >= SHORTEST_RATE_MS) words.push(`${bytesText((gained / elapsed) * 1000)}/s`);
    if (totalBytes !== null && bytes < totalBytes && gained > 0 && elapsed >= SHORTEST_FORECAST_MS) {
      words.push(`${secondsText(((totalBytes - bytes) / gained) * elapsed)} left`);
    }
    return words.join(', ');
  };
}

/** `7 s`, `2 min 5 s`, `3 h 20 min`: what comes is never known to a tenth. */
function secondsText(milliseconds: number): string {
  const seconds = Math.max(1, Math.round(milliseconds / 1000));
  if (seconds < 60) return `${seconds} s`;
  const minutes = Math.floor(seconds / 60);
  return minutes < 60 ? `${minutes} min ${seconds % 60} s` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
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
