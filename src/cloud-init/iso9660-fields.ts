/** The number, date and text fields of ISO 9660 (ECMA-119, sections 7.2, 7.3, 8.4.26 and 9.1.5). */
import { Buffer } from 'node:buffer';

/** The size of a sector and of a logical block. */
export const SECTOR_BYTES = 2048;

export function sectorsOf(bytes: number): number {
  return Math.ceil(bytes / SECTOR_BYTES);
}

/** 16 bits, little end first and then big end first (7.2.3). */
export function both16(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt16LE(value, 0);
  bytes.writeUInt16BE(value, 2);
  return bytes;
}

/** 32 bits, little end first and then big end first (7.3.3). */
export function both32(value: number): Buffer {
  return Buffer.concat([little32(value), big32(value)]);
}

/** 32 bits, little end first (7.3.1). */
export function little32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}

/** 32 bits, big end first (7.3.2). */
export function big32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

/** A time in UTC in seven bytes (9.1.5). Years from 1900 to 2155. */
export function shortDate(time: Date): Buffer {
  return Buffer.from([
    time.getUTCFullYear() - 1900,
    time.getUTCMonth() + 1,
    time.getUTCDate(),
    time.getUTCHours(),
    time.getUTCMinutes(),
    time.getUTCSeconds(),
    0,
  ]);
}

/** A time in UTC in 16 digits and an offset (8.4.26.1); null is "not specified". */
export function longDate(time: Date | null): Buffer {
  const digits = time === null ? '0'.repeat(16) : time.toISOString().replace(/\D/g, '').slice(0, 16);
  return Buffer.concat([Buffer.from(digits, 'latin1'), Buffer.from([0])]);
}

/** ASCII text, filled up with spaces (7.4.3.2). */
export function ascii(text: string, bytes: number): Buffer {
  return Buffer.from(text.padEnd(bytes, ' ').slice(0, bytes), 'latin1');
}

/** Text in UCS-2, big end first, filled up with spaces (Joliet, "Recommended Character Sets"). */
export function ucs2(text: string, bytes: number): Buffer {
  return swapped(text.padEnd(Math.floor(bytes / 2), ' ').slice(0, Math.floor(bytes / 2)), bytes);
}

/** Text in UCS-2, big end first, as it is. */
export function ucs2Exactly(text: string): Buffer {
  return swapped(text, text.length * 2);
}

function swapped(text: string, bytes: number): Buffer {
  return Buffer.concat([Buffer.from(text, 'utf16le').swap16(), Buffer.alloc(bytes - text.length * 2)]);
}
