import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { findChecksum } from '../../src/image/checksum-list.js';
import { runCommand } from '../../src/util/exec.js';
import { temporaryDirectory } from '../support/fixtures.js';
import { writeFile } from 'node:fs/promises';
import { createHash } from 'node:crypto';
import { join } from 'node:path';

const A = '47f2218668dd4776be140dd92fa3bea700be1766e2c7d88bdfd6a4b50f477b4d';
const B = '06e6305fcd5b7dc56c2937b6b127ca8e3c0d7ea8218b5a073d3cd7bf93211e37';
const LONG_A = A.repeat(2);
const LONG_B = B.repeat(2);
const MD5 = 'd41d8cd98f00b204e9800998ecf8427e';

const sha256 = (digest: string) => ({ kind: 'found', checksum: { algorithm: 'sha256', digest } });
const sha512 = (digest: string) => ({ kind: 'found', checksum: { algorithm: 'sha512', digest } });

/** Layouts as their distributions publish them, cut to a few lines. */
const LAYOUTS: readonly (readonly [string, string, string, object])[] = [
  [
    'Debian',
    `${LONG_B}  debian-12-generic-amd64.qcow2\n${LONG_A}  debian-12-genericcloud-amd64.qcow2\n`,
    'debian-12-genericcloud-amd64.qcow2',
    sha512(LONG_A),
  ],
  [
    'Ubuntu',
    `${B} *ubuntu-24.04-server-cloudimg-amd64.tar.gz\n${A} *ubuntu-24.04-server-cloudimg-amd64.img\n`,
    'ubuntu-24.04-server-cloudimg-amd64.img',
    sha256(A),
  ],
  [
    'Fedora',
    `-----BEGIN PGP SIGNED MESSAGE-----
Hash: SHA256

# Fedora-Cloud-Base-AmazonEC2-44-1.7.x86_64.raw.xz: 541542268 bytes
SHA256 (Fedora-Cloud-Base-AmazonEC2-44-1.7.x86_64.raw.xz) = ${B}
# Fedora-Cloud-Base-Generic-44-1.7.x86_64.qcow2: 532217856 bytes
SHA256 (Fedora-Cloud-Base-Generic-44-1.7.x86_64.qcow2) = ${A}
-----BEGIN PGP SIGNATURE-----

iQIzBAEBCAAdFiEEsPRckVjTqZ8GYxJUAn1EeYOAmd8FAmf9d1cACgkQAn1EeYOA
md8G9A//ZGVtb25zdHJhdGlvbg==
=abcd
-----END PGP SIGNATURE-----
`,
    'Fedora-Cloud-Base-Generic-44-1.7.x86_64.qcow2',
    sha256(A),
  ],
  [
    'Rocky',
    `# Rocky-9-GenericCloud-Base.latest.x86_64.qcow2: 645988352 bytes
SHA256 (Rocky-9-GenericCloud-Base.latest.x86_64.qcow2) = ${A}
`,
    'Rocky-9-GenericCloud-Base.latest.x86_64.qcow2',
    sha256(A),
  ],
  [
    'AlmaLinux',
    `${A}  AlmaLinux-10-GenericCloud-10.2-20260526.0.x86_64.qcow2
${B}  AlmaLinux-10-GenericCloud-ext4-latest.x86_64.qcow2
${A}  AlmaLinux-10-GenericCloud-latest.x86_64.qcow2
`,
    'AlmaLinux-10-GenericCloud-latest.x86_64.qcow2',
    sha256(A),
  ],
  [
    'CentOS Stream',
    `# CentOS-Stream-GenericCloud-10-20241118.0.x86_64.qcow2: 954073088 bytes
SHA256 (CentOS-Stream-GenericCloud-10-20241118.0.x86_64.qcow2) = ${B}
# CentOS-Stream-GenericCloud-10-latest.x86_64.qcow2: 954073088 bytes
SHA256 (CentOS-Stream-GenericCloud-10-latest.x86_64.qcow2) = ${A}`,
    'CentOS-Stream-GenericCloud-10-latest.x86_64.qcow2',
    sha256(A),
  ],
  [
    'openSUSE, one space',
    `${A} openSUSE-Leap-15.6-Minimal-VM.x86_64-Cloud.qcow2\n`,
    'openSUSE-Leap-15.6-Minimal-VM.x86_64-Cloud.qcow2',
    sha256(A),
  ],
  [
    'openSUSE, two spaces',
    `${A}  Leap-16.0-Minimal-VM.x86_64-Cloud.qcow2\n`,
    'Leap-16.0-Minimal-VM.x86_64-Cloud.qcow2',
    sha256(A),
  ],
  ['Alpine', LONG_A, 'nocloud_alpine-3.22.4-x86_64-bios-cloudinit-r0.qcow2', sha512(LONG_A)],
  ['Arch Linux', `${A}  Arch-Linux-x86_64-cloudimg.qcow2\n`, 'Arch-Linux-x86_64-cloudimg.qcow2', sha256(A)],
];

describe('the layout of', () => {
  it.each(LAYOUTS)('%s is read', (_, text, name, expected) => {
    expect(findChecksum(text, name)).toStrictEqual(expected);
    expect(findChecksum(text.replaceAll('\n', '\r\n'), name)).toStrictEqual(expected);
    expect(findChecksum(`\uFEFF${text}`, name)).toStrictEqual(expected);
  });
});

describe('a line', () => {
  it.each([
    [`${A}  ./disk`, 'disk', sha256(A)],
    [`${A}  images/x64/disk`, 'disk', sha256(A)],
    [`${A}\tdisk`, 'disk', sha256(A)],
    [`${A.toUpperCase()}  disk`, 'disk', sha256(A)],
    [`${A}  with space (1).img`, 'with space (1).img', sha256(A)],
    [`\\${A}  back\\\\slash\\nline\\rend`, 'back\\slash\nline\rend', sha256(A)],
    [`${A}  a\\nb`, 'a\\nb', sha256(A)],
    [`SHA256 (with space (1).img) = ${A}`, 'with space (1).img', sha256(A)],
    [`\\SHA512 (a\\nb) = ${LONG_A}`, 'a\nb', sha512(LONG_A)],
    [`SHA2-256(disk)= ${A}`, 'disk', sha256(A)],
    [`SHA256(disk)= ${A}`, 'disk', sha256(A)],
    [`${A}  -`, 'disk', sha256(A)],
    [`\n\n  \n${A}\n\n`, 'disk', sha256(A)],
  ])('%j is one for %j', (line, name, expected) => {
    expect(findChecksum(line, name)).toStrictEqual(expected);
  });

  it('for another file is none', () => {
    for (const name of ['disk.sig', 'a-disk', 'DISK', 'disk ', 'x/disk/y']) {
      expect(findChecksum(`${A}  ${name}`, 'disk')).toMatchObject({ kind: 'absent' });
    }
  });

  it('of BSD whose digest has not the length of its algorithm is none', () => {
    const text = `SHA512 (disk) = ${A}\nSHA256 (other) = ${B}`;
    expect(findChecksum(text, 'disk')).toMatchObject({ kind: 'absent' });
  });
});

describe('several digests of a file', () => {
  it('of different algorithms give the sha256, which a download has anyway', () => {
    const lines = [`${LONG_A}  disk`, `${A}  disk`, `${MD5}  disk`];
    for (const text of [lines.join('\n'), lines.toReversed().join('\n')]) {
      expect(findChecksum(text, 'disk')).toStrictEqual(sha256(A));
    }
  });

  it('of one algorithm are a contradiction, whichever algorithm would be taken', () => {
    expect(findChecksum(`${A}  disk\n${B}  disk`, 'disk')).toStrictEqual({
      kind: 'ambiguous',
      algorithm: 'sha256',
      digests: [A, B],
    });
    expect(findChecksum(`${A}  disk\n${LONG_A}  disk\n${LONG_B}  disk`, 'disk')).toMatchObject({
      kind: 'ambiguous',
      algorithm: 'sha512',
    });
    expect(findChecksum(`${A}\n${B}`, 'disk')).toMatchObject({ kind: 'ambiguous' });
  });

  it('that are the same are one', () => {
    expect(findChecksum(`${A}  disk\nSHA256 (disk) = ${A}\n${A.toUpperCase()} *./disk`, 'disk')).toStrictEqual(
      sha256(A),
    );
  });

  it('in several folders are told apart by the plain name alone', () => {
    expect(findChecksum(`${B}  old/disk\n${A}  disk`, 'disk')).toStrictEqual(sha256(A));
    expect(findChecksum(`${B}  old/disk\n${A}  new/disk`, 'disk')).toMatchObject({ kind: 'ambiguous' });
  });
});

describe('a list', () => {
  it('without the file names the most similar ones', () => {
    const text = [
      `${A}  debian-12-genericcloud-arm64.qcow2`,
      `${A}  debian-12-genericcloud-amd64.raw`,
      `${A}  debian-12-nocloud-ppc64el.tar.xz`,
      `${A}  README`,
    ].join('\n');
    expect(findChecksum(text, 'debian-12-genericcloud-amd64.qcow2')).toStrictEqual({
      kind: 'absent',
      near: ['debian-12-genericcloud-arm64.qcow2', 'debian-12-genericcloud-amd64.raw'],
    });
    expect(findChecksum(`${A}  README`, 'disk.qcow2')).toStrictEqual({ kind: 'absent', near: [] });
  });

  it('of algorithms that are not taken says which', () => {
    const text = `${MD5}  disk\nSHA1 (disk) = ${'0'.repeat(40)}\nBLAKE2b (disk) = ${LONG_A}`;
    expect(findChecksum(text, 'disk')).toStrictEqual({
      kind: 'unsupported',
      algorithms: ['MD5', 'SHA1', 'BLAKE2B'],
    });
    expect(findChecksum(MD5, 'disk')).toStrictEqual({ kind: 'unsupported', algorithms: ['MD5'] });
  });
});

describe('a clear-signed list', () => {
  const signed = (message: string): string =>
    `-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA512\n\n${message}\n-----BEGIN PGP SIGNATURE-----\n\nabc\n-----END PGP SIGNATURE-----\n`;

  it('counts for what is in the signed part alone', () => {
    expect(findChecksum(`${B}  disk\n${signed(`${A}  disk`)}${B}  disk\n`, 'disk')).toStrictEqual(sha256(A));
    expect(findChecksum(`${B}  disk\n${signed(`${A}  other`)}`, 'disk')).toMatchObject({ kind: 'absent' });
  });

  it('is read without its dash-escapes', () => {
    expect(findChecksum(signed(`- -----BEGIN x-----\n- ${A}  disk`), 'disk')).toStrictEqual(sha256(A));
  });

  it('may have no headers, or several', () => {
    const text = signed(`${A}  disk`);
    expect(findChecksum(text.replace('Hash: SHA512\n', ''), 'disk')).toStrictEqual(sha256(A));
    expect(findChecksum(text.replace('Hash:', 'Comment: x\nHash:'), 'disk')).toStrictEqual(sha256(A));
  });
});

describe('what is no list', () => {
  it.each([
    ['', 'empty'],
    [' \r\n\n', 'empty'],
    ['<!DOCTYPE html>\n<html><body>Not found</body></html>', 'HTML'],
    ['\n<html>', 'HTML'],
    ['QFI\uFFFD\0\0', 'binary'],
    ['-----BEGIN PGP SIGNATURE-----\n\niQIz\n-----END PGP SIGNATURE-----\n', 'signature'],
    ['hello\n', 'other'],
    [`${A.slice(1)}  disk`, 'other'],
    [`sha256:${A}`, 'other'],
  ])('%j is told apart as %s', (text, content) => {
    expect(findChecksum(text, 'disk')).toStrictEqual({ kind: 'no-list', content });
  });
});

describe('any list', () => {
  const name = fc.stringMatching(/^[A-Za-z0-9_][A-Za-z0-9_.+~ ()\\-]{0,40}$/).filter((text) => text !== '-');
  const digest = fc.oneof(fc.stringMatching(/^[0-9a-f]{64}$/), fc.stringMatching(/^[0-9a-f]{128}$/));
  const files = fc.uniqueArray(fc.record({ name, digest }), { selector: (file) => file.name, minLength: 1 });
  const escaped = (text: string): readonly [string, string] => [
    text.includes('\\') ? '\\' : '',
    text.replaceAll('\\', '\\\\'),
  ];
  const write = {
    gnu: (one: { readonly name: string; readonly digest: string }): string => {
      const [mark, shown] = escaped(one.name);
      return `${mark}${one.digest}  ${shown}`;
    },
    bsd: (one: { readonly name: string; readonly digest: string }): string => {
      const [mark, shown] = escaped(one.name);
      return `${mark}SHA${one.digest.length * 4} (${shown}) = ${one.digest}`;
    },
  };

  it.each(['gnu', 'bsd'] as const)('in the %s format gives each file its own digest', (format) => {
    fc.assert(
      fc.property(files, (all) => {
        const text = all.map(write[format]).join('\n');
        for (const one of all) {
          const algorithm = one.digest.length === 64 ? 'sha256' : 'sha512';
          expect(findChecksum(text, one.name)).toStrictEqual({
            kind: 'found',
            checksum: { algorithm, digest: one.digest },
          });
        }
      }),
    );
  });

  it('and any text at all is answered, never with a digest that is not in it', () => {
    const piece = fc.oneof(
      fc.string(),
      digest,
      fc.constantFrom('\n', '  ', ' *', 'disk', 'SHA256 (', ') = ', '\\', '-----BEGIN PGP SIGNED MESSAGE-----\n'),
    );
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 30 }), (pieces) => {
        const text = pieces.join('');
        const found = findChecksum(text, 'disk');
        const given = found.kind === 'found' ? found.checksum.digest : '';
        expect(text.toLowerCase()).toContain(given);
      }),
    );
  });

  it('of 4 MiB in one line is answered at once', () => {
    const begun = performance.now();
    for (const unit of ['(', ') =', ') = a', 'a', '\\', 'Hash: ', ' ']) {
      findChecksum(unit.repeat(Math.floor((4 * 1024 ** 2) / unit.length)), 'disk');
      findChecksum(`SHA256 (${unit.repeat(Math.floor((4 * 1024 ** 2) / unit.length))}`, 'disk');
    }
    expect(performance.now() - begun).toBeLessThan(5000);
  });
});

it.each(['sha256sum', 'sha512sum'])('what %s prints is read, in both of its formats', async (program) => {
  await using directory = await temporaryDirectory();
  const name = 'a disk\\with\neverything (1) = *.img';
  await writeFile(join(directory.path, name), 'x');
  const algorithm = program === 'sha256sum' ? 'sha256' : 'sha512';
  const checksum = { algorithm, digest: createHash(algorithm).update('x').digest('hex') };
  for (const options of [[], ['--binary'], ['--tag']]) {
    const { stdout } = await runCommand(program, [...options, name], { cwd: directory.path });
    expect(findChecksum(stdout, name)).toStrictEqual({ kind: 'found', checksum });
  }
});
