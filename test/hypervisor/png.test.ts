import { inflateSync } from 'node:zlib';
import { expect, test } from 'vitest';
import { pngOfPpm } from '../../src/hypervisor/qemu/png.js';

test('a PPM picture becomes a PNG of the same pixels', async () => {
  const pixels = Buffer.from([255, 0, 0, 0, 255, 0, 0, 0, 255, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
  const png = await pngOfPpm(Buffer.concat([Buffer.from('P6\n3 2\n255\n'), pixels]));
  expect(png.subarray(0, 8)).toEqual(Buffer.from('89504e470d0a1a0a', 'hex'));
  expect(png.subarray(12, 29)).toEqual(Buffer.from('4948445200000003000000020802000000', 'hex'));
  const data = png.subarray(png.indexOf('IDAT') + 4, png.indexOf('IEND') - 8);
  const rows = inflateSync(data);
  expect(Buffer.concat([rows.subarray(1, 10), rows.subarray(11, 20)])).toEqual(pixels);
  // The known checksum of an empty last chunk.
  expect(png.subarray(-8).toString('hex')).toBe('49454e44ae426082');
});

test.each(['', 'P5\n1 1\n255\nx', 'P6\n2 2\n255\nabc', 'P6\n1 1\n65535\nabcdef'])('%j is refused', async (text) => {
  await expect(pngOfPpm(Buffer.from(text))).rejects.toMatchObject({ code: 'QMP' });
});
