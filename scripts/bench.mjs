// How fast vmctl is, as ratios against a reference that is run in turn with it, so that the figures mean the same on a
// slow or shared machine. Prints a table and writes bench/results.json. Needs the build; uses no network.
//
//     npm run bench                   all groups
//     npm run bench -- images         one of them: start-up, up, images, lan
//     npm run bench -- --rounds 50    more rounds, for less noise
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { images } from './bench/images.mjs';
import { lan } from './bench/lan.mjs';
import { upGroup } from './bench/up.mjs';
import { giveUp, root } from './setup.mjs';

const GROUPS = {
  'start-up': startUp,
  up: () => upGroup(scratch),
  images: () => images({ program, scratch, measure }),
  lan: () => lan({ program, scratch, measure }),
};

const { values, positionals } = parseArgs({
  options: { rounds: { type: 'string' } },
  allowPositionals: true,
});
const wanted = positionals.length === 0 ? Object.keys(GROUPS) : positionals;
const unknown = wanted.filter((name) => !Object.hasOwn(GROUPS, name));
if (unknown.length > 0) giveUp(`There is no group ${unknown.join(', ')}; there are ${Object.keys(GROUPS).join(', ')}.`);
const DEFAULT_ROUNDS = 21;
const program = join(root, 'dist', 'cli.js');
const scratch = mkdtempSync(join(tmpdir(), 'vmctl-bench-'));

try {
  execFileSync(process.execPath, [join(root, 'scripts', 'build.mjs')], { stdio: 'ignore' });
  const results = [];
  for (const name of wanted) {
    process.stderr.write(`${name} …\n`);
    for (const result of await GROUPS[name]()) results.push({ group: name, ...result });
  }
  print(results);
  mkdirSync(join(root, 'bench'), { recursive: true });
  const document = {
    schemaVersion: 1,
    node: process.version,
    cores: cpus().length,
    results: results.map(({ bar, ...result }) => ({ ...result, bar: bar.words, met: bar.met(result) })),
  };
  writeFileSync(join(root, 'bench', 'results.json'), `${JSON.stringify(document, null, 2)}\n`);
  process.exitCode = document.results.every(({ met }) => met) ? 0 : 1;
} finally {
  rmSync(scratch, { recursive: true, force: true });
}

/** Start-up: what a person waits for before anything happens, against a Node.js that does nothing. */
function startUp() {
  const node = { name: 'node -e 0', run: () => time(['-e', '0'], {}) };
  const ratio = (limit) => ({ words: `at most ${limit} times node`, met: ({ ratio: found }) => found <= limit });
  const extra = (limit) => ({
    words: `at most node + ${limit} ms`,
    met: ({ medianMs, referenceMs }) => medianMs <= referenceMs + limit,
  });
  const none = { words: '', met: () => true };
  const small = project('small', 1);
  const large = project('large', 100);
  const huge = project('huge', 1000);
  const loaded = { name: 'validate, 1 VM', run: () => time([program, 'validate'], small) };
  return [
    measure('vmctl --version', () => time([program, '--version'], small), { reference: node, bar: ratio(1.5) }),
    measure('vmctl --help', () => time([program, '--help'], small), { reference: node, bar: none }),
    measure('vmctl list, 1 VM', () => time([program, 'list'], small), { reference: node, bar: extra(100) }),
    measure('vmctl list, 100 VMs', () => time([program, 'list'], large), { reference: node, bar: extra(100) }),
    measure('vmctl up, 1 VM that is up', () => time([program, 'up'], small), { reference: node, bar: none }),
    measure('validate, 1000 VMs', () => time([program, 'validate'], huge), {
      reference: loaded,
      bar: { words: 'at most 1 s more', met: ({ medianMs, referenceMs }) => medianMs <= referenceMs + 1000 },
    }),
  ];
}

/** A project folder of that many VMs on the Noop backend, which are up where there are few enough. */
function project(name, count) {
  const folder = join(scratch, name);
  mkdirSync(folder);
  writeFileSync(join(folder, 'disk.raw'), Buffer.alloc(1024 * 1024));
  const vm = (_, i) =>
    `vm "vm-${i}" {\n  image "disk.raw"\n  memory 512\n  cloud-init\n  ssh\n  provision "shell" { inline "true" }\n}\n`;
  writeFileSync(join(folder, 'VMFile.kdl'), Array.from({ length: count }, vm).join(''));
  const env = { ...process.env, XDG_DATA_HOME: join(folder, 'data'), VMCTL_BACKEND: 'noop' };
  const options = { cwd: folder, env };
  if (count <= 100) execFileSync(process.execPath, [program, 'up'], { ...options, stdio: 'ignore' });
  return options;
}

/** Milliseconds of one run. */
function time(words, options) {
  const begun = performance.now();
  const { status } = spawnSync(process.execPath, words, { ...options, stdio: 'ignore' });
  if (status !== 0) throw new Error(`${words.join(' ')} failed with exit code ${status}`);
  return performance.now() - begun;
}

/** The subject and its reference in turn, each once before that to warm up. */
function measure(name, run, { reference, bar, rounds: usual = DEFAULT_ROUNDS }) {
  const rounds = Number(values.rounds ?? usual);
  const [own, others] = [[], []];
  reference.run();
  run();
  for (let round = 0; round < rounds; round += 1) {
    others.push(reference.run());
    own.push(run());
  }
  const medianMs = median(own);
  const referenceMs = median(others);
  return {
    name,
    reference: reference.name,
    medianMs,
    referenceMs,
    ratio: medianMs / referenceMs,
    spread: [quantile(own, 0.1), quantile(own, 0.9)],
    rounds,
    bar,
  };
}

function median(numbers) {
  return quantile(numbers, 0.5);
}

function quantile(numbers, share) {
  const sorted = numbers.toSorted((a, b) => a - b);
  return sorted[Math.round((sorted.length - 1) * share)];
}

function print(results) {
  const header = ['', 'median', '10 to 90 %', 'reference', 'ratio', 'bar', ''];
  const rows = results.map((result) => [
    result.name,
    ...(result.reference === undefined
      ? [result.value, '', '', '']
      : [
          `${result.medianMs.toFixed(0)} ms`,
          `${result.spread.map((ms) => ms.toFixed(0)).join(' to ')} ms`,
          `${result.reference} ${result.referenceMs.toFixed(0)} ms`,
          result.ratio.toFixed(2),
        ]),
    result.bar.words,
    result.bar.words === '' ? '' : result.bar.met(result) ? 'met' : 'MISSED',
  ]);
  const widths = header.map((_, i) => Math.max(...[header, ...rows].map((row) => row[i].length)));
  for (const row of [header, ...rows]) {
    process.stdout.write(
      `${row
        .map((cell, i) => cell.padEnd(widths[i]))
        .join('  ')
        .trimEnd()}\n`,
    );
  }
}
