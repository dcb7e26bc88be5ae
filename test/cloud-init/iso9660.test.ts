import { Buffer } from 'node:buffer';
import { mkdir, mkdtemp, readFile, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { type IsoOptions, buildIso } from '../../src/cloud-init/iso9660.js';
import { runCommand } from '../../src/util/exec.js';

type Files = IsoOptions['files'];

const time = new Date('2026-11-22T01:02:03.004Z');
const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);
const file = (name: string, text = name): Files[number] => ({ name, content: bytes(text) });
const seed = [file('meta-data'), file('user-data', '#cloud-config\n'), file('network-config'), file('vendor-data')];

let directory: string;

beforeAll(async () => {
  for (const [program, flag, package_] of [
    ['xorriso', '-version', 'xorriso'],
    ['isoinfo', '-version', 'genisoimage'],
  ] as const) {
    await runCommand(program, [flag]).catch((cause: unknown) => {
      throw new Error(`this test reads ISO images with ${program}: install the package ${package_}`, { cause });
    });
  }
});

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'vmctl-iso-'));
});

afterEach(async () => {
  await runCommand('chmod', ['-R', 'u+w', directory]);
  await rm(directory, { recursive: true, force: true });
});

async function written(files: Files, volume = 'cidata'): Promise<string> {
  const path = join(directory, 'test.iso');
  await writeFile(path, buildIso({ volume, files, time }));
  return path;
}

/** What xorriso takes out of the image: names to contents. */
async function extracted(path: string): Promise<Map<string, Buffer>> {
  const target = join(directory, 'extracted');
  await rm(target, { recursive: true, force: true });
  await mkdir(target);
  const { stderr } = await runCommand('xorriso', ['-osirrox', 'on', '-indev', path, '-extract', '/', target]);
  expect(stderr).not.toMatch(/WARNING|SORRY|FAILURE/);
  await runCommand('chmod', ['u+w', target]);
  const names = await readdir(target);
  return new Map(await Promise.all(names.map(async (name) => [name, await readFile(join(target, name))] as const)));
}

function contents(files: Files): Map<string, Buffer> {
  return new Map(files.map(({ name, content }) => [name, Buffer.from(content)]));
}

function sorted<T>(map: Map<string, T>): [string, T][] {
  return [...map].toSorted(([a], [b]) => (a < b ? -1 : 1));
}

describe('a seed, as xorriso sees it', () => {
  test('has the label', async () => {
    const { stdout, stderr } = await runCommand('xorriso', ['-indev', await written(seed), '-toc']);
    expect(stdout + stderr).toContain("Volume id    : 'cidata'");
  });

  test('has its files with their exact names, one after the other', async () => {
    const path = await written(seed);
    const { stdout } = await runCommand('xorriso', ['-indev', path, '-find', '/', '-exec', 'report_lba']);
    const found = stdout
      .split('\n')
      .flatMap((line) => /, +(\d+) , +\d+ , +(\d+) , '\/(.*)'$/.exec(line)?.slice(1) ?? []);
    expect(found).toEqual([
      ...['26', '9', 'meta-data'],
      ...['28', '14', 'network-config'],
      ...['27', '14', 'user-data'],
      ...['29', '11', 'vendor-data'],
    ]);
  });

  test('gives back the bytes', async () => {
    expect(sorted(await extracted(await written(seed)))).toEqual(sorted(contents(seed)));
  });
});

describe('a seed, as isoinfo sees it', () => {
  test('has Rock Ridge names, modes, owners and times', async () => {
    const { stdout } = await runCommand('isoinfo', ['-l', '-R', '-i', await written(seed)]);
    const lines = stdout.split('\n').filter((line) => /^[d-]/.test(line));
    expect(
      lines.map((line) =>
        line
          .replace(/\[.*\]/, '')
          .trim()
          .replaceAll(/ +/g, ' '),
      ),
    ).toEqual([
      'dr-xr-xr-x 2 0 0 2048 Nov 22 2026 .',
      'dr-xr-xr-x 2 0 0 2048 Nov 22 2026 ..',
      '-r--r--r-- 1 0 0 9 Nov 22 2026 meta-data',
      '-r--r--r-- 1 0 0 14 Nov 22 2026 network-config',
      '-r--r--r-- 1 0 0 14 Nov 22 2026 user-data',
      '-r--r--r-- 1 0 0 11 Nov 22 2026 vendor-data',
    ]);
  });

  test('has the same names in Joliet', async () => {
    const { stdout } = await runCommand('isoinfo', ['-f', '-J', '-i', await written(seed)]);
    expect(stdout.trim().split('\n')).toEqual(['/meta-data', '/network-config', '/user-data', '/vendor-data']);
  });

  test('has plain ISO 9660 names', async () => {
    const { stdout } = await runCommand('isoinfo', ['-f', '-i', await written(seed)]);
    expect(stdout.split('\n').filter((line) => line.startsWith('/'))).toEqual([
      '/META_DATA.;1',
      '/NETWORK_CONFIG.;1',
      '/USER_DATA.;1',
      '/VENDOR_DATA.;1',
    ]);
  });

  test('says what it is in both volume descriptors', async () => {
    const { stdout } = await runCommand('isoinfo', ['-d', '-i', await written(seed)]);
    expect(stdout).toContain('Volume id: cidata');
    expect(stdout).toContain('Volume size is: 30');
    expect(stdout).toContain('Joliet with UCS level 3 found');
    expect(stdout).toContain('Rock Ridge signatures version 1 found');
  });

  test('has path tables with the root directory alone', async () => {
    const { stdout } = await runCommand('isoinfo', ['-p', '-i', await written(seed)]);
    expect(stdout.trim().split('\n').at(-1)?.trim()).toBe('1:    1 17');
  });
});

test('the path tables lead to the root directories in both byte orders', () => {
  const image = Buffer.from(buildIso({ volume: 'cidata', files: seed, time }));
  const rootOf = (descriptor: number): number => image.readUInt32LE(descriptor * 2048 + 156 + 2);
  expect(image.readUInt32LE(19 * 2048 + 2)).toBe(rootOf(16));
  expect(image.readUInt32BE(20 * 2048 + 2)).toBe(rootOf(16));
  expect(image.readUInt32LE(21 * 2048 + 2)).toBe(rootOf(17));
  expect(image.readUInt32BE(22 * 2048 + 2)).toBe(rootOf(17));
});

describe('any files', () => {
  test('come back as they were', { timeout: 60_000 }, async () => {
    const name = fc
      .string({ unit: 'grapheme', minLength: 1, maxLength: 60 })
      .filter((text) => !/[/\0]/.test(text) && text !== '.' && text !== '..' && Buffer.byteLength(text) <= 255);
    const content = fc.oneof(fc.uint8Array({ maxLength: 10 }), fc.uint8Array({ minLength: 2040, maxLength: 4100 }));
    const files = fc.uniqueArray(fc.record({ name, content }), { selector: (entry) => entry.name, maxLength: 60 });
    await fc.assert(
      fc.asyncProperty(files, async (some) => {
        const found = await extracted(await written(some));
        // Node and xorriso agree on bytes, not on Unicode normalisation, so names are compared as they are.
        expect(sorted(found)).toEqual(sorted(contents(some)));
      }),
      { numRuns: 25 },
    );
  });

  test('may have the longest names and names that differ in their last character', async () => {
    const long = 'abcdefghij'.split('').map((last) => file(`${'n'.repeat(254)}${last}`));
    const path = await written(long);
    expect(sorted(await extracted(path))).toEqual(sorted(contents(long)));
    const { stdout } = await runCommand('isoinfo', ['-f', '-J', '-i', path]);
    expect(new Set(stdout.trim().split('\n')).size).toBe(10);
  });

  test('may be so many that the directory has many sectors', async () => {
    const many = Array.from({ length: 200 }, (_, index) => file(`file-${index}.with-a-name-of-some-length.txt`));
    expect(sorted(await extracted(await written(many)))).toEqual(sorted(contents(many)));
  });

  test('may be none, be empty, and fill sectors exactly', async () => {
    expect([...(await extracted(await written([])))]).toEqual([]);
    const some = [file('empty', ''), file('one', 'x'.repeat(2048)), file('more', 'y'.repeat(2049)), file('last', 'z')];
    expect(sorted(await extracted(await written(some)))).toEqual(sorted(contents(some)));
  });

  test('stand in the order that the standard asks for', async () => {
    const some = ['B.B0', 'B.B', 'B0', 'B', 'A_', 'A.Z', 'Z'].map((name) => file(name));
    const { stdout } = await runCommand('isoinfo', ['-f', '-i', await written(some)]);
    expect(stdout.split('\n').filter((line) => line.startsWith('/'))).toEqual([
      '/A.Z;1',
      '/A_.;1',
      '/B.;1',
      '/B.B;1',
      '/B.B0;1',
      '/B0.;1',
      '/Z.;1',
    ]);
  });
});

describe('the writer', () => {
  test('gives the same bytes for the same options', () => {
    const build = (): string => Buffer.from(buildIso({ volume: 'cidata', files: seed, time })).toString('base64');
    expect(build()).toBe(build());
  });

  test.each(['', '.', '..', 'a/b', 'a\0', 'x'.repeat(256), 'ü'.repeat(128), 'a\ud800'])(
    'refuses the name %j',
    (name) => {
      expect(() => buildIso({ volume: 'cidata', files: [file(name)], time })).toThrow('cannot be a file name');
    },
  );

  test('refuses two files of one name', () => {
    expect(() => buildIso({ volume: 'cidata', files: [file('a'), file('a')], time })).toThrow('two files');
  });

  test.each(['', 'x'.repeat(17), 'ü', 'a\n'])('refuses the label %j', (volume) => {
    expect(() => buildIso({ volume, files: seed, time })).toThrow('cannot be a volume label');
  });
});
