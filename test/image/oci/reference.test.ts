import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { VmctlError } from '../../../src/errors.js';
import { isPrivate, ociText, parseOciReference, registryOrigin } from '../../../src/image/oci/reference.js';

const SHA256 = `sha256:${'0a'.repeat(32)}`;
const SHA512 = `sha512:${'0b'.repeat(64)}`;

describe('a reference', () => {
  test.each([
    ['oci://ghcr.io/me/disk:1.0', { registry: 'ghcr.io', repository: 'me/disk', tag: '1.0', digest: null }],
    ['OCI://GHCR.io/a', { registry: 'ghcr.io', repository: 'a', tag: 'latest', digest: null }],
    ['oci://localhost:5000/a/b/c', { registry: 'localhost:5000', repository: 'a/b/c', tag: 'latest', digest: null }],
    ['oci://[::1]:5000/a:_x', { registry: '[::1]:5000', repository: 'a', tag: '_x', digest: null }],
    [`oci://r.example/a__b--c@${SHA256}`, { registry: 'r.example', repository: 'a__b--c', tag: null, digest: SHA256 }],
    [`oci://r.example/a@${SHA512}`, { registry: 'r.example', repository: 'a', tag: null, digest: SHA512 }],
  ])('%s is taken apart', (text, expected) => {
    expect(parseOciReference(text)).toEqual(expected);
  });

  test('with a tag and a digest is what the digest says', () => {
    expect(parseOciReference(`oci://r.example/a:1@${SHA256}`)).toEqual(
      parseOciReference(`oci://r.example/a@${SHA256}`),
    );
  });

  test.each(['docker.io', 'index.docker.io', 'registry-1.docker.io', 'Docker.IO'])(
    'to %s is one to Docker Hub, where official images have a folder',
    (registry) => {
      expect(ociText(parseOciReference(`oci://${registry}/debian:12`))).toBe('oci://docker.io/library/debian:12');
      expect(ociText(parseOciReference(`oci://${registry}/me/disk`))).toBe('oci://docker.io/me/disk:latest');
    },
  );

  test.each([
    ['https://ghcr.io/a', 'it does not start with `oci://`'],
    ['oci://', 'it names no registry'],
    ['oci://ghcr.io', 'it names no repository'],
    ['oci://ghcr.io/', 'it names no repository'],
    ['oci://-a.example/b', '`-a.example` is no registry'],
    ['oci://a..b/c', '`a..b` is no registry'],
    ['oci://300.1.1.1/a', '`300.1.1.1` is no registry'],
    ['oci://[1:2]/a', '`[1:2]` is no registry'],
    ['oci://a:0/b', '`0` is no port'],
    ['oci://a:70000/b', '`70000` is no port'],
    ['oci://a:/b', '`` is no port'],
    ['oci://a/b//c', 'a part of its repository is empty'],
    ['oci://a/B', 'its repository has upper-case letters (`B`)'],
    ['oci://a/../b', '`..` cannot be a part of its repository'],
    ['oci://a/b?c=d', '`b?c=d` cannot be a part of its repository'],
    ['oci://a/b#c', '`b#c` cannot be a part of its repository'],
    ['oci://a/b%2fc', '`b%2fc` cannot be a part of its repository'],
    ['oci://a/b:', 'its tag is empty'],
    ['oci://a/b:-x', '`-x` is no tag'],
    ['oci://a/b:x:y', '`x:y` is no tag'],
    [`oci://a/b:${'x'.repeat(129)}`, `\`${'x'.repeat(129)}\` is no tag`],
    ['oci://a/b@md5:00', 'its digest is neither `sha256:…` nor `sha512:…`'],
    ['oci://a/b@', 'its digest is neither `sha256:…` nor `sha512:…`'],
    [`oci://a/b@sha256:${'A'.repeat(64)}`, 'its digest is not `sha256:` and 64 hexadecimal digits in lower case'],
    ['oci://a/b@sha512:00', 'its digest is not `sha512:` and 128 hexadecimal digits in lower case'],
    [`oci://a/${'b/'.repeat(130)}c`, 'its registry and repository have more than 255 characters'],
  ])('%j is none: %s', (text, problem) => {
    expect(() => parseOciReference(text)).toThrow(
      expect.objectContaining({
        code: 'IMAGE_NOT_FOUND',
        message: `${JSON.stringify(text)} names no image: ${problem}`,
      }),
    );
  });

  test('with a password is refused, and the password is not shown', () => {
    const refused = () => parseOciReference('oci://me:secret@ghcr.io/a');
    expect(refused).toThrow('"oci://…@ghcr.io/a" names no image: a user or password has no place in it');
  });

  test('is either refused or has one text that means the same', () => {
    const piece = fc.constantFrom(
      'a',
      'B',
      '.',
      '-',
      '_',
      ':',
      '/',
      '@',
      '[',
      ']',
      'sha256:',
      'x.y',
      '5000',
      ' ',
      SHA256,
    );
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 12 }), (pieces) => {
        let reference;
        try {
          reference = parseOciReference(`oci://${pieces.join('')}`);
        } catch (error) {
          if (!(error instanceof VmctlError)) throw error;
          return;
        }
        expect(parseOciReference(ociText(reference))).toEqual(reference);
        expect(registryOrigin(reference).pathname).toBe('/');
      }),
    );
  });
});

describe('a registry', () => {
  test.each([
    ['oci://localhost/a', 'http://localhost'],
    ['oci://localhost:5000/a', 'http://localhost:5000'],
    ['oci://127.0.0.1:5000/a', 'http://127.0.0.1:5000'],
    ['oci://127.9.9.9/a', 'http://127.9.9.9'],
    ['oci://[::1]:5000/a', 'http://[::1]:5000'],
    ['oci://localhost.example.org/a', 'https://localhost.example.org'],
    ['oci://127.0.0.1.example.org/a', 'https://127.0.0.1.example.org'],
    ['oci://10.0.0.1:5000/a', 'https://10.0.0.1:5000'],
    ['oci://ghcr.io/a', 'https://ghcr.io'],
    ['oci://docker.io/a', 'https://registry-1.docker.io'],
  ])('of %s is asked at %s', (text, origin) => {
    expect(registryOrigin(parseOciReference(text)).origin).toBe(origin);
  });

  test.each([
    ['https://auth.example.org/token', true],
    ['http://127.0.0.1:1/token', true],
    ['http://auth.example.org/token', false],
    ['http://localhost.example.org/token', false],
    ['file:///token', false],
  ])('may send a password to %s: %s', (url, expected) => {
    expect(isPrivate(new URL(url))).toBe(expected);
  });
});
