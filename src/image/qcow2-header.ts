/**
 * The start of a qcow2 file, read before QEMU opens it: an image that somebody else made may name a backing file or an
 * external data file, and QEMU would open those, whatever they are (CVE-2015-5163, CVE-2024-32498).
 * The layout is that of QEMU's docs/interop/qcow2.txt.
 */
import { Buffer } from 'node:buffer';

const HEADER_BYTES = 72;
const HEADER_BYTES_VERSION_3 = 104;
/** Bits of `incompatible_features`. */
const CORRUPT = 1n << 1n;
const EXTERNAL_DATA_FILE = 1n << 2n;

export interface Qcow2Problem {
  readonly reason: string;
  readonly hint: string;
}

const FLATTEN =
  'Make it an image that stands alone with "qemu-img convert -O qcow2", if you trust where it comes from.';

/** Why the image is not safe or not usable; null when nothing in its header is against it. */
export function qcow2Problem(head: Uint8Array): Qcow2Problem | null {
  const header = Buffer.from(head.buffer, head.byteOffset, head.byteLength);
  const cutOff = { reason: 'its header is cut off', hint: 'Fetch or copy the image again.' };
  if (header.length < HEADER_BYTES) return cutOff;
  const version = header.readUInt32BE(4);
  if (version !== 2 && version !== 3) {
    return { reason: `it is a qcow2 image of the unknown version ${version}`, hint: 'Fetch or copy the image again.' };
  }
  if (version === 3 && header.length < HEADER_BYTES_VERSION_3) return cutOff;
  const features = version === 3 ? header.readBigUInt64BE(72) : 0n;
  if (header.readBigUInt64BE(8) !== 0n) {
    return { reason: `it has a backing file${named(header)}, which would be read from this host`, hint: FLATTEN };
  }
  if ((features & EXTERNAL_DATA_FILE) !== 0n) {
    return { reason: 'it keeps its data in another file, which would be read from this host', hint: FLATTEN };
  }
  if (header.readUInt32BE(32) !== 0) {
    return { reason: 'it is encrypted', hint: 'Decrypt it with "qemu-img convert -O qcow2" first.' };
  }
  if ((features & CORRUPT) !== 0n) {
    return {
      reason: 'it is marked as corrupt',
      hint: 'Fetch or copy the image again, or try "qemu-img check -r all".',
    };
  }
  return null;
}

/** The backing file's name as far as it is at hand. */
function named(header: Buffer): string {
  const start = Number(header.readBigUInt64BE(8));
  const end = start + header.readUInt32BE(16);
  return end <= header.length ? ` (${JSON.stringify(header.toString('utf8', start, end))})` : '';
}
