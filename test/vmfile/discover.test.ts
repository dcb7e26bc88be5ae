import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { decodeUtf8, discoverVmFile } from '../../src/vmfile/discover.js';
import { parseVmFile } from '../../src/vmfile/parse.js';
import { systemError } from './report.js';
import { failure } from '../support/failure.js';

let folder = '';

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'vmctl-discover-'));
});

afterEach(async () => {
  await rm(folder, { recursive: true });
});

describe('the VMFile', () => {
  it('is VMFile.kdl of the folder where no other is named', async () => {
    await writeFile(join(folder, 'VMFile.kdl'), 'vm "a"');
    expect(await discoverVmFile({ cwd: folder })).toStrictEqual({ path: join(folder, 'VMFile.kdl'), text: 'vm "a"' });
  });

  it('is the file that is named, relative to the folder or absolute', async () => {
    await mkdir(join(folder, 'sub'));
    const path = join(folder, 'sub', 'other.kdl');
    await writeFile(path, 'vm "b"');
    expect(await discoverVmFile({ cwd: folder, file: 'sub/other.kdl' })).toStrictEqual({ path, text: 'vm "b"' });
    expect(await discoverVmFile({ cwd: '/', file: path })).toStrictEqual({ path, text: 'vm "b"' });
  });

  it('loses its byte order mark', async () => {
    await writeFile(join(folder, 'VMFile.kdl'), '\uFEFFvm "a"');
    expect((await discoverVmFile({ cwd: folder })).text).toBe('vm "a"');
  });

  it('that is missing is an error that shows how to write one', async () => {
    const error = await failure(discoverVmFile({ cwd: folder }));
    expect(error.toJSON()).toMatchObject({
      code: 'VMFILE_NOT_FOUND',
      message: `there is no VMFile.kdl in ${folder}`,
      hint: 'Create one, for example: vm "web" { image "disk.qcow2" }\nOr name another file with --file PATH.',
      fields: { path: join(folder, 'VMFile.kdl') },
    });
  });

  it('that was named and is missing is an error with the whole path', async () => {
    const error = await failure(discoverVmFile({ cwd: folder, file: 'x/y.kdl' }));
    expect(error.message).toBe(`there is no VMFile at ${folder}/x/y.kdl`);
    expect(error.hint).toBe('Check the path given with --file.');
  });

  it('cannot be a folder', async () => {
    const error = await failure(discoverVmFile({ cwd: '/', file: folder }));
    expect(error.message).toBe(`${folder} is a folder, not a VMFile`);
    expect(error.hint).toBe(`Name the file itself: --file ${folder}/VMFile.kdl`);
  });

  it('that may not be read is an error that says so', async () => {
    const read = async (): Promise<never> => await Promise.reject(systemError('EACCES'));
    const error = await failure(discoverVmFile({ cwd: '/x', read }));
    expect(error.message).toBe('/x/VMFile.kdl cannot be read: permission denied');
    expect(error.hint).toBe('Check who owns it and its permissions.');
  });

  it('that leads to itself is an error with the words of the system', async () => {
    await symlink('VMFile.kdl', join(folder, 'VMFile.kdl'));
    const error = await failure(discoverVmFile({ cwd: folder }));
    expect(error.message).toContain('cannot be read: ELOOP');
  });

  it('with bytes that are not UTF-8 is read, and the bytes are reported where they are', async () => {
    await writeFile(join(folder, 'VMFile.kdl'), Buffer.from('vm "\xe9t\xe9" { image "\u0041" }', 'latin1'));
    const source = await discoverVmFile({ cwd: folder });
    expect(source.text).toBe('vm "\uFFFDt\uFFFD" { image "A" }');
    const found = parseVmFile(source).diagnostics.filter(({ code }) => code === 'syntax');
    expect(found.map(({ message, span }) => [message, span])).toStrictEqual([
      ['these bytes are not UTF-8', { start: 4, end: 5 }],
      ['these bytes are not UTF-8', { start: 6, end: 7 }],
    ]);
  });
});

describe('a VMFile in UTF-16', () => {
  it('is one mistake, not one for every letter', () => {
    const source = { path: '/x', ...decodeUtf8(Buffer.from('\uFEFFvm "a" { image "b" }', 'utf16le')) };
    expect(parseVmFile(source).diagnostics.map(({ message, hint }) => [message, hint])).toStrictEqual([
      ['these bytes are not UTF-8', 'the file looks like UTF-16; save it as UTF-8'],
    ]);
  });
});

describe('decoding', () => {
  it('keeps a U+FFFD that is written in the file', () => {
    expect(decodeUtf8(Buffer.from('a\uFFFDb'))).toStrictEqual({ text: 'a\uFFFDb' });
    const mixed = Buffer.concat([Buffer.from('\uFFFD'), Buffer.from([0xff]), Buffer.from('\uFFFD')]);
    expect(decodeUtf8(mixed)).toStrictEqual({ text: '\uFFFD\uFFFD\uFFFD', invalidBytes: [{ start: 1, end: 2 }] });
  });

  it.each([
    ['a cut character', [0x61, 0xf0, 0x9f, 0x98, 0x62], [{ start: 1, end: 2 }]],
    ['an overlong one', [0xc0, 0xaf, 0x62], [{ start: 0, end: 2 }]],
    ['a surrogate', [0xed, 0xa0, 0x80], [{ start: 0, end: 3 }]],
    ['a byte order mark first', [0xef, 0xbb, 0xbf, 0xff], [{ start: 0, end: 1 }]],
    ['UTF-16', [0xff, 0xfe, 0x76, 0x00], [{ start: 0, end: 2 }]],
  ])('finds the wrong bytes with %s', (_what, bytes, invalidBytes) => {
    expect(decodeUtf8(Uint8Array.from(bytes)).invalidBytes).toStrictEqual(invalidBytes);
  });

  it('agrees with the decoder of the platform and marks only replacements, for any bytes', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 40 }), (bytes) => {
        const { text, invalidBytes } = decodeUtf8(bytes);
        expect(text).toBe(new TextDecoder().decode(bytes));
        for (const { start, end } of invalidBytes ?? []) expect(text.slice(start, end)).toMatch(/^\uFFFD+$/);
      }),
    );
  });
});
