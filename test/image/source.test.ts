import { describe, expect, test } from 'vitest';
import { signatureOf } from '../../src/image/signature.js';
import { addressOf, cachedFileName, imageName, shownUrl, urlKey } from '../../src/image/source.js';

const digest = 'a'.repeat(64);

describe('the name in the cache', () => {
  test.each([
    ['https://h/x/debian-12-genericcloud-amd64.qcow2', /^debian-12-genericcloud-amd64-[0-9a-f]{12}\.qcow2$/],
    ['https://h/noble-server-cloudimg-amd64.img?v=1#x', /^noble-server-cloudimg-amd64-[0-9a-f]{12}\.img$/],
    ['https://h/image.qcow2.zst', /^image-[0-9a-f]{12}\.qcow2$/],
    ['https://h/image.raw.XZ', /^image-[0-9a-f]{12}\.raw$/],
    ['https://h/download/', /^download-[0-9a-f]{12}$/],
    ['https://h', /^image-[0-9a-f]{12}$/],
    ['https://h/..%2f..%2fetc%2fpasswd', /^_.._etc_passwd-[0-9a-f]{12}$/],
    ['https://h/.hidden.img', /^hidden-[0-9a-f]{12}\.img$/],
    ['https://h/a%00b%0ac%20d.img', /^a_b_c_d-[0-9a-f]{12}\.img$/],
    ['https://h/ünïcode.img', /^_+n_+code-[0-9a-f]{12}\.img$/],
    [`https://h/${'x'.repeat(500)}.img`, /^x{80}-[0-9a-f]{12}\.img$/],
  ])('of %s is readable and safe', (url, name) => {
    expect(cachedFileName(addressOf(url).name, digest)).toMatch(name);
  });

  test('is another for another content', () => {
    expect(cachedFileName('a.img', digest)).not.toBe(cachedFileName('a.img', 'b'.repeat(64)));
    expect(cachedFileName('a.img', digest, 64)).toBe(`a-${digest}.img`);
  });
});

describe('the key of a URL', () => {
  const key = (url: string): string => urlKey(new URL(url));

  test('is the same for what leads to the same image', () => {
    expect(key('https://me:pass@H:443/a/../b.img#top')).toBe(key('https://h/b.img'));
  });

  test.each(['http://h/b.img', 'https://h:444/b.img', 'https://h/B.img', 'https://h/b.img?x'])(
    'is another for %s',
    (url) => {
      expect(key(url)).not.toBe(key('https://h/b.img'));
    },
  );
});

test('a URL is shown without its secrets', () => {
  expect(shownUrl(new URL('https://me:pass@h:8443/a%20b.img?signature=secret#x'))).toBe('https://h:8443/a%20b.img?…');
  expect(shownUrl(new URL('http://h/'))).toBe('http://h/');
});

test('an image has a name for messages', () => {
  expect(imageName(new URL('https://h/pool/debian-12.qcow2.zst?x'))).toBe('debian-12.qcow2.zst');
});

test('an unknown start of a file is that of a raw disk, however short', () => {
  const bootSector = new Uint8Array(512).fill(0x90);
  for (const head of [new Uint8Array(), Uint8Array.of(0), Uint8Array.of(0xeb, 0x63, 0x90), bootSector]) {
    expect(signatureOf(head).kind).toBe('raw');
  }
});
