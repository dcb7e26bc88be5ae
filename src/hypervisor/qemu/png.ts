/** A picture as QEMU writes it, as a PNG file (PNG specification, third edition; Netpbm, ppm(5)). */
import { promisify } from 'node:util';
import { crc32, deflate } from 'node:zlib';
import { VmctlError } from '../../errors.js';

const SIGNATURE = Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]);

/** Throws `QMP` for what is no binary PPM of 8 bits a sample. */
export async function pngOfPpm(ppm: Buffer): Promise<Buffer> {
  const { width, height, pixels } = readPpm(ppm);
  const stride = width * 3;
  // Each row has a byte before it that names its filter: none.
  const rows = Buffer.alloc((stride + 1) * height);
  for (let row = 0; row < height; row += 1) {
    pixels.copy(rows, row * (stride + 1) + 1, row * stride, (row + 1) * stride);
  }
  const header = Buffer.alloc(13);
  header.writeUInt32BE(width, 0);
  header.writeUInt32BE(height, 4);
  // 8 bits a sample, of red, green and blue; the rest has one value only.
  header.set([8, 2, 0, 0, 0], 8);
  const data = await promisify(deflate)(rows);
  return Buffer.concat([SIGNATURE, chunk('IHDR', header), chunk('IDAT', data), chunk('IEND', Buffer.alloc(0))]);
}

function readPpm(ppm: Buffer): { readonly width: number; readonly height: number; readonly pixels: Buffer } {
  const match = /^P6\s+(\d+)\s+(\d+)\s+255\s/.exec(ppm.subarray(0, 64).toString('latin1'));
  const [head = '', width, height] = match ?? [];
  const pixels = ppm.subarray(head.length);
  if (match === null || pixels.length < Number(width) * Number(height) * 3) {
    throw new VmctlError('QMP', 'QEMU wrote a screenshot that is no whole PPM picture');
  }
  return { width: Number(width), height: Number(height), pixels };
}

function chunk(type: string, data: Buffer): Buffer {
  const body = Buffer.concat([Buffer.from(type, 'latin1'), data]);
  const framed = Buffer.alloc(body.length + 8);
  framed.writeUInt32BE(data.length, 0);
  body.copy(framed, 4);
  framed.writeUInt32BE(crc32(body), body.length + 4);
  return framed;
}
