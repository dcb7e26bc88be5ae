import { describe, expect, it } from 'vitest';
import { hostname, imageUrl, interfaceName, oneLine, parseChecksum, unixUser, vmName } from '../../src/vmfile/names.js';

describe('the name of a VM', () => {
  it.each(['a', '7', 'web-1', 'my_vm', 'A.b_C-9', 'a-', 'x'.repeat(63)])('can be %j', (name) => {
    expect(vmName(name)).toBeNull();
  });

  it.each([
    ['', 'it is empty'],
    ['x'.repeat(64), 'it has 64 characters and 63 are the limit'],
    ['.hidden', 'it starts with `.`'],
    ['-x', 'it starts with `-`'],
    ['_x', 'it starts with `_`'],
    ['..', 'it starts with `.`'],
    ['a/b', 'it has a slash'],
    ['a b', 'it has a space'],
    ['a\n', 'it has the character U+000A'],
    ['a\u200bb', 'it has the character U+200B'],
    ['naïve', 'it has the character `ï`'],
    ['😀', 'it has the character `😀`'],
    ['a..b', 'it has two dots in a row'],
    ['a.', 'it ends with a dot'],
  ])('cannot be %j: %s', (name, reason) => {
    expect(vmName(name)).toBe(reason);
  });
});

describe('a hostname', () => {
  it.each(['a', 'web-1', '1.2.example', 'X'.repeat(63)])('can be %j', (name) => {
    expect(hostname(name)).toBeNull();
  });

  it.each([
    ['', 'it is empty'],
    ['a_b', 'it has the character `_`'],
    ['-a', '`-a` starts or ends with a hyphen'],
    ['a-.b', '`a-` starts or ends with a hyphen'],
    ['a..b', 'a part between its dots is empty'],
    ['a.', 'a part between its dots is empty'],
    ['x'.repeat(64), '`xxxxxxxxxxxx…` has 64 characters and 63 are the limit'],
    ['x.'.repeat(127), 'it has 254 characters and 253 are the limit'],
  ])('cannot be %j: %s', (name, reason) => {
    expect(hostname(name)).toBe(reason);
  });
});

describe('a user', () => {
  it.each(['root', '_apt', 'a-b_9', 'x'.repeat(32)])('can be %j', (name) => {
    expect(unixUser(name)).toBeNull();
  });

  it.each([
    ['', 'it is empty'],
    ['Admin', 'it has the upper-case letter `A`'],
    ['a.b', 'it has the character `.`'],
    ['1a', 'it starts with `1`'],
    ['x'.repeat(33), 'it has 33 characters and 32 are the limit'],
  ])('cannot be %j: %s', (name, reason) => {
    expect(unixUser(name)).toBe(reason);
  });
});

describe('a path', () => {
  it.each(['disk.qcow2', '/a b/c', '~/x', 'é', '\u2014'])('can be %j', (path) => {
    expect(oneLine(path)).toBeNull();
  });

  it.each([
    ['', 'it is empty'],
    ['a\nb', 'it has a line break'],
    ['a\u2028b', 'it has a line break'],
    ['a\0b', 'it has a control character'],
    ['a\u001b[31m', 'it has a control character'],
  ])('cannot be %j: %s', (path, reason) => {
    expect(oneLine(path)).toBe(reason);
  });
});

describe('a bridge', () => {
  it('is an interface of at most 15 plain characters, because it goes into an argument of QEMU', () => {
    expect(interfaceName('br0')).toBeNull();
    expect(interfaceName('virbr0.100-a_b')).toBeNull();
    expect(interfaceName('br0,x=y')).toBe('it has the character `,`');
    expect(interfaceName('a'.repeat(16))).toBe('it has 16 characters and 15 are the limit');
  });
});

describe('the URL of an image', () => {
  it.each([
    'https://example.org/a.qcow2',
    'http://127.0.0.1:8080/a',
    'HTTPS://example.org/a?b=c#d',
    'file:///a/b%20c.qcow2',
    'file:/a',
    'oci://ghcr.io/me/disk:1',
    `oci://ghcr.io/me/disk@sha256:${'0'.repeat(64)}`,
  ])('can be %j', (url) => {
    expect(imageUrl(url)).toBeNull();
  });

  it.each([
    ['', 'it is empty'],
    ['https:', 'outside of quotes, `//` starts a comment'],
    ['https://', 'it is not a URL'],
    ['example.org/a', 'it has no scheme'],
    ['ftp://example.org/a', 'it has the scheme `ftp`'],
    ['https://example.org/a b', 'it has a space'],
    ['https://example.org/a\n', 'it has a line break'],
    ['oci:ghcr.io/me/disk', 'it does not start with `oci://`'],
    ['oci://ghcr.io', 'it names no repository'],
    ['oci://ghcr.io/Me/disk', 'its repository has upper-case letters (`Me`)'],
    ['oci://ghcr.io/me/disk@sha256:00', 'its digest is not `sha256:` and 64 hexadecimal digits in lower case'],
  ])('cannot be %j: %s', (url, reason) => {
    expect(imageUrl(url)).toBe(reason);
  });
});

describe('a checksum', () => {
  it('is taken apart, its digits in lower case', () => {
    expect(parseChecksum(`sha256:${'Ab'.repeat(32)}`)).toStrictEqual({
      ok: true,
      value: { algorithm: 'sha256', digest: 'ab'.repeat(32) },
    });
    expect(parseChecksum(`sha512:${'0f'.repeat(64)}`)).toMatchObject({ ok: true, value: { algorithm: 'sha512' } });
    expect(parseChecksum('https://example.org/SHA256SUMS')).toStrictEqual({
      ok: true,
      value: { algorithm: 'list', url: 'https://example.org/SHA256SUMS' },
    });
  });

  it.each([
    ['', 'it names no algorithm'],
    ['abcdef', 'it names no algorithm'],
    ['md5:00', '`md5` is no algorithm that vmctl checks'],
    ['sha256:', 'sha256 has 64 hexadecimal digits, this has 0'],
    [`sha512:${'0'.repeat(64)}`, 'sha512 has 128 hexadecimal digits, this has 64'],
    ['sha256:xyz', 'the character `x` is no hexadecimal digit'],
    ['sha256:00 00', 'the space is no hexadecimal digit'],
    ['https://', 'it is not a URL'],
  ])('cannot be %j: %s', (text, problem) => {
    expect(parseChecksum(text)).toStrictEqual({ ok: false, problem });
  });
});
