/** Real VMFiles, changed at random in many places at once: whatever comes out is read, and told of, without a fault. */
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { FULL_RUN, Random, chosenSeed } from '../support/random.js';
import { processorTime } from '../support/processor-time.js';
import { faultsOf } from './faults.js';
import { BROKEN_DOCUMENTS, DOCUMENTS } from './kdl-documents.js';

const FIXTURES = join(import.meta.dirname, '../fixtures/vmfile');
const REAL = ['valid', 'broken'].flatMap((kind) =>
  readdirSync(join(FIXTURES, kind))
    .filter((file) => file.endsWith('.kdl'))
    .map((file) => readFileSync(join(FIXTURES, kind, file), 'utf8')),
);
const CORPUS = [...REAL, ...DOCUMENTS, ...BROKEN_DOCUMENTS];

const DOCUMENTS_READ = FULL_RUN ? 100_000 : 2_000;
/** Far above what one takes; a document that is read in more has found something that does not grow with its length. */
const SLOWEST_MS = 2_000;
const LONGEST = 8_000;

const MORSELS = [
  ...['{', '}', '(', ')', '[', ']', '<', '>', '=', ';', ',', '\\', '/', '"', "'", '#', '"""', '#"', '"#', '##"""'],
  ...['/-', '//', '/*', '*/', '\n', '\r', '\r\n', '\t', '\u2028', '\u0085', '\uFEFF', '\0', '\u202E', '\uD800'],
  ...[
    '\uDC00',
    '😀',
    '日本',
    'e\u0301',
    '#true',
    '#null',
    '#nan',
    '-inf',
    '0x',
    '0b',
    '1e999',
    '-0',
    '1_',
    '9'.repeat(40),
  ],
  ...[
    '../',
    '~/',
    '~root/',
    '/dev/zero',
    '..',
    '__proto__',
    'constructor',
    '$(id)',
    '%s%n',
    '\u001b[2J',
    'ſ',
    '\\u{110000}',
  ],
  ...[
    'vm ',
    'vm "a" ',
    'image ',
    'memory ',
    'disk ',
    'ssh { ',
    'provision "shell" { ',
    'network "user" { ',
    'forward ',
  ],
  ...['depends-on "a"', 'cloud-init', 'run="once" ', 'image-url "https://', 'checksum "sha256:', '0 ', '-1 ', '65536 '],
];

type Change = (text: string, random: Random) => string;

const CHANGES: readonly Change[] = [
  (text, random) => {
    const [start, end] = range(text, random);
    return text.slice(0, start) + text.slice(end);
  },
  (text, random) => {
    const [start, end] = range(text, random);
    const to = random.below(text.length + 1);
    return text.slice(0, to) + text.slice(start, end) + text.slice(to);
  },
  (text, random) => insert(text, random, random.pick(MORSELS)),
  (text, random) => insert(text, random, random.pick(MORSELS)),
  (text, random) => insert(text, random, random.pick(MORSELS).repeat(1 + random.below(200))),
  (text, random) => insert(text, random, String.fromCharCode(random.below(random.chance(0.8) ? 0x80 : 0x1_00_00))),
  (text, random) => {
    const other = random.pick(CORPUS);
    const [start, end] = range(other, random);
    return insert(text, random, other.slice(start, end));
  },
  (text, random) => text.slice(0, random.below(text.length + 1)),
  (text, random) => text.slice(random.below(text.length + 1)),
  (text, random) => {
    const [start, end] = range(text, random);
    return text.slice(0, start) + Array.from(text.slice(start, end)).toReversed().join('') + text.slice(end);
  },
];

function range(text: string, random: Random): readonly [number, number] {
  const start = random.below(text.length + 1);
  return [start, Math.min(text.length, start + random.below(random.chance(0.7) ? 12 : 400))];
}

function insert(text: string, random: Random, morsel: string): string {
  const at = random.below(text.length + 1);
  return text.slice(0, at) + morsel + text.slice(at);
}

/** The document of that number: the same each time for a seed. */
function documentOf(seed: number, number: number): string {
  const random = new Random(seed + number);
  let text = random.pick(random.chance(0.7) ? REAL : CORPUS);
  for (let count = 1 + random.below(6); count > 0; count -= 1) text = random.pick(CHANGES)(text, random);
  return text.slice(0, LONGEST);
}

test(`${DOCUMENTS_READ} documents are read without a crash, a hang, or a finding outside of its text`, {
  timeout: FULL_RUN ? 1_800_000 : 60_000,
}, () => {
  const seed = chosenSeed(20_250_304);
  const found: object[] = [];
  for (let number = 0; number < DOCUMENTS_READ; number += 1) {
    const text = documentOf(seed, number);
    let faults: readonly string[] = [];
    const tookMs = processorTime(() => {
      try {
        faults = faultsOf(text);
      } catch (error) {
        faults = [error instanceof Error ? (error.stack ?? error.message) : String(error)];
      }
    });
    if (tookMs > SLOWEST_MS) faults = [...faults, `reading it took ${Math.round(tookMs)} ms`];
    if (faults.length > 0) found.push({ seed, number, text, faults });
  }
  expect(found).toEqual([]);
});

test.each([
  ['one line of a million characters', 'x'.repeat(1_000_000)],
  ['one string that never ends', `vm "${'a'.repeat(1_000_000)}`],
  ['many strings that never end', 'vm "a\n'.repeat(1_000)],
  ['many comments that never end', '/* '.repeat(10_000)],
  ['many raw strings that never end', '##"'.repeat(10_000)],
  ['many numbers that are none', 'vm 0x 1. 1e '.repeat(10_000)],
  ['a VM that is declared many times', 'vm "a" { image "disk.qcow2" }\n'.repeat(1_000)],
  [
    'VMs that depend on one another in a long row',
    Array.from(
      { length: 2_000 },
      (_, index) => `vm "v${index}" { image "disk.qcow2"; depends-on "v${index + 1}" }`,
    ).join('\n'),
  ],
])('%s: read in seconds', (_what, text) => {
  const begun = performance.now();
  expect(faultsOf(text)).toEqual([]);
  expect(performance.now() - begun).toBeLessThan(10_000);
});
