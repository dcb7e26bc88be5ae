// The table on the terminal, and bench/results.json.
import { readFileSync } from 'node:fs';

/** A number of a row with its unit. */
export function amount(value, unit) {
  if (unit === 'bytes') return value >= 1e6 ? `${(value / 1e6).toFixed(1)} MB` : `${(value / 1e3).toFixed(1)} kB`;
  if (unit !== 'ms')
    return `${value >= 100 || Number.isInteger(value) ? value.toFixed(0) : value.toFixed(2)} ${unit}`.trim();
  if (value >= 10_000) return `${(value / 1000).toFixed(1)} s`;
  return `${value < 10 ? value.toFixed(1) : value.toFixed(0)} ms`;
}

export function range([from, to], unit) {
  return `${amount(from, unit)} to ${amount(to, unit)}`;
}

export const HEADER = ['', 'median', '10 to 90 %', 'reference', 'its median', 'ratio', '10 to 90 %', 'bar', ''];

/** The cells of a row, as text. */
export function cells({ name, unit, value, spread, reference, ratio, ratioSpread, bar }) {
  return [
    name,
    amount(value, unit),
    range(spread, unit),
    reference.name,
    amount(reference.value, unit),
    ratio.toFixed(2),
    ratioSpread.map((one) => one.toFixed(2)).join(' to '),
    bar?.words ?? '',
    bar === null ? '' : bar.met ? 'met' : 'MISSED',
  ];
}

export function table(groups) {
  const all = groups.map(({ title, rows }) => ({ title, lines: rows.map(cells), notes: rows.map(({ note }) => note) }));
  const widths = HEADER.map((title, i) =>
    Math.max(title.length, ...all.flatMap(({ lines }) => lines.map((line) => line[i].length))),
  );
  const text = (line) =>
    line
      .map((cell, i) => cell.padEnd(widths[i]))
      .join('  ')
      .trimEnd();
  const blocks = all.map(({ title, lines, notes }) => {
    const told = [...new Set(notes.filter((note) => note !== ''))].map((note) => `  (${note})`);
    return [title, ...lines.map(text), ...told].join('\n');
  });
  return `${[text(HEADER), ...blocks].join('\n\n')}\n`;
}

/** Every group that was measured, by its name. */
export function measured(path) {
  return merged(path, {}).groups;
}

/** What is measured now, beside what was measured before of the groups that are not run now. */
export function merged(path, groups) {
  let before = { groups: {} };
  try {
    const read = JSON.parse(readFileSync(path, 'utf8'));
    if (read.schemaVersion === 2) before = read;
  } catch {
    // There is none yet.
  }
  return { schemaVersion: 2, groups: { ...before.groups, ...groups } };
}
