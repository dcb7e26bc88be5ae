// How fast vmctl is, as ratios against a reference that is run in turn with it, so that the figures mean the same on a
// slow or shared machine. Prints a table, and writes bench/results.json and a picture for each group. Uses no network.
//
//     npm run bench                   all groups
//     npm run bench -- images scale   some of them
//     npm run bench -- --rounds 50    more rounds, for less noise
//     npm run bench -- --list         what there is
//     npm run bench -- --docs         measures nothing: the last results become docs/benchmarks.md
//
// A group is a file in scripts/bench/groups; scripts/bench/README.md says how one is written.
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { chart } from './bench/lib/chart.mjs';
import { writePage } from './bench/lib/page.mjs';
import { measured, merged, table } from './bench/lib/report.mjs';
import { buildGuest, ensurePrograms, giveUp, root } from './setup.mjs';

const { values, positionals } = parseArgs({
  options: {
    rounds: { type: 'string' },
    list: { type: 'boolean', default: false },
    docs: { type: 'boolean', default: false },
  },
  allowPositionals: true,
});
const folder = new URL('bench/groups/', import.meta.url);
const names = readdirSync(folder).flatMap((file) => (file.endsWith('.mjs') ? [file.slice(0, -'.mjs'.length)] : []));
const unknown = positionals.filter((name) => !names.includes(name));
if (unknown.length > 0) giveUp(`There is no group ${unknown.join(', ')}; there are ${names.join(', ')}.`);
const chosen = positionals.length === 0 ? names : positionals;
const groups = await Promise.all(
  chosen.map(async (name) => ({ name, ...(await import(new URL(`${name}.mjs`, folder))) })),
);
const most = Number(values.rounds ?? 0);
const results = join(root, 'bench', 'results.json');

if (values.list) for (const { name, title, about } of groups) process.stdout.write(`${name}: ${title}. ${about}\n`);
else if (values.docs) writePage(join(root, 'docs'), measured(results));
else await bench();

async function bench() {
  execFileSync(process.execPath, [join(root, 'scripts', 'build.mjs')], { stdio: 'ignore' });
  const scratch = mkdtempSync(join(tmpdir(), 'vmctl-bench-'));
  mkdirSync(join(root, 'bench'), { recursive: true });
  const host = `Node.js ${process.versions.node}, ${cpus().length} cores`;
  const done = [];
  try {
    for (const { name, title, about, programs = [], run } of groups) {
      process.stderr.write(`${name} …\n`);
      ensurePrograms(programs);
      const place = join(scratch, name);
      mkdirSync(place);
      const rows = await run({
        scratch: place,
        /** As many rounds as the command line says, or as many as the group finds enough. */
        rounds: (usual) => (most > 0 ? most : usual),
        guestImage: () => buildGuest('pocket'),
      });
      const group = { title, about, host, rows };
      done.push(group);
      // At once, so that what took long is not lost with what fails after it.
      writeFileSync(results, `${JSON.stringify(merged(results, { [name]: group }), null, 2)}\n`);
      writeFileSync(join(root, 'bench', `${name}.svg`), chart(group));
    }
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
  process.stdout.write(table(done));
  const missed = done.flatMap(({ rows }) => rows).filter(({ bar }) => bar !== null && !bar.met);
  process.exitCode = missed.length === 0 ? 0 : 1;
}
