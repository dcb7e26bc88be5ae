// The page of the documentation with what was measured: a table and a picture for each group.
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { chart } from './chart.mjs';
import { HEADER, cells } from './report.mjs';

const INTRODUCTION = `# Figures

How fast vmctl is, as \`npm run bench\` measures it ([how](../scripts/bench/README.md)). Each figure is a ratio against a
reference that ran in turn with it on the same machine; the milliseconds are that machine's, and the ratio is what says
something about yours. The spread is that of the middle 80 %. A bar that was missed says so, and the reason is below its
table.
`;

/** Writes `benchmarks.md` and the pictures into the folder of the documentation. */
export function writePage(docs, groups) {
  const pictures = join(docs, 'benchmarks');
  mkdirSync(pictures, { recursive: true });
  const sections = Object.entries(groups).map(([name, group]) => {
    writeFileSync(join(pictures, `${name}.svg`), chart(group));
    return section(name, group);
  });
  writeFileSync(join(docs, 'benchmarks.md'), [INTRODUCTION, ...sections].join('\n'));
}

function section(name, { title, about, host, rows }) {
  const notes = [...new Set(rows.map(({ note }) => note).filter((note) => note !== ''))];
  const lines = [HEADER, HEADER.map(() => '---'), ...rows.map(cells)].map((line) => `| ${line.join(' | ')} |`);
  return [
    `## ${title}\n`,
    `${about}\n`,
    `![${title}](benchmarks/${name}.svg)\n`,
    ...lines,
    ...notes.map((note) => `\n${note[0].toUpperCase()}${note.slice(1)}.`),
    `\nMeasured with ${host}.\n`,
  ].join('\n');
}
