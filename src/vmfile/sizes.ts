/** Sizes and durations as people write them. Mistakes come back as data, never as exceptions. */

export type Parsed<T> = { readonly ok: true; readonly value: T } | { readonly ok: false; readonly problem: string };

export const MIB = 2 ** 20;
export const GIB = 2 ** 30;

const SIZE_UNITS: ReadonlyMap<string, number> = new Map([
  ['b', 1],
  ['k', 2 ** 10],
  ['kib', 2 ** 10],
  ['kb', 1e3],
  ['m', MIB],
  ['mib', MIB],
  ['mb', 1e6],
  ['g', GIB],
  ['gib', GIB],
  ['gb', 1e9],
  ['t', 2 ** 40],
  ['tib', 2 ** 40],
  ['tb', 1e12],
]);

/**
 * The bytes of a size such as `2GiB`, `512 MiB`, `1.5G` or `20 GB`: K, M, G, T and KiB to TiB count in powers of 1024
 * (as `qemu-img` does), kB to TB in powers of 1000, letter case aside. A fraction must come to whole bytes.
 */
export function parseSize(text: string): Parsed<number> {
  const match = /^\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*$/i.exec(text);
  if (match === null) return problem(`${JSON.stringify(text)} is not a size`);
  const [, digits = '', unit = ''] = match;
  if (unit === '') return problem(`${JSON.stringify(text)} has no unit`);
  const factor = SIZE_UNITS.get(unit.toLowerCase());
  if (factor === undefined) return problem(`${JSON.stringify(text)} has the unknown unit ${JSON.stringify(unit)}`);
  const bytes = Number(digits) * factor;
  if (bytes > Number.MAX_SAFE_INTEGER) return problem(`${JSON.stringify(text)} is too large`);
  if (!Number.isInteger(bytes)) return problem(`${JSON.stringify(text)} is not a whole number of bytes`);
  return { ok: true, value: bytes };
}

const DURATION_UNITS: ReadonlyMap<string, number> = new Map([
  ['d', 86_400_000],
  ['h', 3_600_000],
  ['m', 60_000],
  ['s', 1000],
  ['ms', 1],
]);

/**
 * The seconds of a duration such as `90s`, `2m`, `1h30m` or `500ms`: each of d, h, m, s, ms at most once and in this
 * order. Nothing is rounded, so `500ms` is 0.5; a fraction (`1.5h`) must come to whole milliseconds.
 */
export function parseDuration(text: string): Parsed<number> {
  const parts = [...text.matchAll(/(\d+(?:\.\d+)?)\s*([a-z]+)\s*/gi)];
  const compact = parts.map((part) => part[0]).join('');
  if (parts.length === 0 || compact !== text.trimStart()) {
    return problem(
      /^\s*\d+\s*$/.test(text) ? `${JSON.stringify(text)} has no unit` : `${JSON.stringify(text)} is not a duration`,
    );
  }
  let milliseconds = 0;
  let previous = Number.POSITIVE_INFINITY;
  for (const [, digits = '', unit = ''] of parts) {
    const factor = DURATION_UNITS.get(unit.toLowerCase());
    if (factor === undefined) return problem(`${JSON.stringify(text)} has the unknown unit ${JSON.stringify(unit)}`);
    if (factor >= previous) return problem(`${JSON.stringify(text)} does not go from larger units to smaller ones`);
    previous = factor;
    milliseconds += Number(digits) * factor;
  }
  if (milliseconds > Number.MAX_SAFE_INTEGER) return problem(`${JSON.stringify(text)} is too long`);
  if (!Number.isInteger(milliseconds)) return problem(`${JSON.stringify(text)} is not a whole number of milliseconds`);
  return { ok: true, value: milliseconds / 1000 };
}

function problem(words: string): { readonly ok: false; readonly problem: string } {
  return { ok: false, problem: words };
}
