/**
 * Rock Ridge: exact names, modes and times for Linux and Unix, as entries in the "system use" part of directory
 * records (System Use Sharing Protocol, IEEE P1281 draft 1.12; Rock Ridge Interchange Protocol, IEEE P1282 draft 1.12).
 */
import { Buffer } from 'node:buffer';
import { both32, shortDate } from './iso9660-fields.js';

/** A regular file or directory that everybody may read; the owner is root. */
export interface Attributes {
  readonly directory: boolean;
  readonly time: Date;
}

const FILE_MODE = 0o100444;
const DIRECTORY_MODE = 0o040555;
/** An entry's length is one byte. */
const LONGEST_NM = 250;
const VERSION = 1;

const EXTENSION_ID = 'RRIP_1991A';
const EXTENSION_DESCRIPTION = 'THE ROCK RIDGE INTERCHANGE PROTOCOL PROVIDES SUPPORT FOR POSIX FILE SYSTEM SEMANTICS';
const EXTENSION_SOURCE =
  'PLEASE CONTACT DISC PUBLISHER FOR SPECIFICATION SOURCE.  ' +
  'SEE PUBLISHER IDENTIFIER IN PRIMARY VOLUME DESCRIPTOR FOR CONTACT INFORMATION.';

/** `SP`: the volume uses the sharing protocol; the first entry of the root's own record (SUSP, 5.3). */
export function sharingProtocol(): Buffer {
  return entry('SP', Buffer.from([0xbe, 0xef, 0]));
}

/** `ER`: which extension the entries belong to (SUSP, 5.5; RRIP, 4.3). */
export function extensionReference(): Buffer {
  const texts = [EXTENSION_ID, EXTENSION_DESCRIPTION, EXTENSION_SOURCE];
  const header = Buffer.from([...texts.map((text) => text.length), 1]);
  return entry('ER', Buffer.concat([header, ...texts.map((text) => Buffer.from(text, 'latin1'))]));
}

/** `CE`: more entries stand at that place (SUSP, 5.1). */
export function continuation(place: {
  readonly sector: number;
  readonly offset: number;
  readonly bytes: number;
}): Buffer {
  return entry('CE', Buffer.concat([both32(place.sector), both32(place.offset), both32(place.bytes)]));
}

/** `PX` and `TF`: mode, links, owner; times of modification, access and status change (RRIP 1.10, 4.1.1 and 4.1.6). */
export function attributes({ directory, time }: Attributes): Buffer {
  const mode = directory ? DIRECTORY_MODE : FILE_MODE;
  const owner = Buffer.concat([both32(mode), both32(directory ? 2 : 1), both32(0), both32(0)]);
  const date = shortDate(time);
  return Buffer.concat([entry('PX', owner), entry('TF', Buffer.concat([Buffer.from([0x0e]), date, date, date]))]);
}

/** `NM`: the name, in as many entries as it needs (RRIP, 4.1.4). */
export function alternateName(name: string): Buffer {
  const bytes = Buffer.from(name);
  const parts: Buffer[] = [];
  for (let start = 0; start < bytes.length; start += LONGEST_NM) {
    const more = start + LONGEST_NM < bytes.length ? 1 : 0;
    parts.push(entry('NM', Buffer.concat([Buffer.from([more]), bytes.subarray(start, start + LONGEST_NM)])));
  }
  return Buffer.concat(parts);
}

function entry(signature: string, content: Buffer): Buffer {
  const header = Buffer.from([0, 0, 4 + content.length, VERSION]);
  header.write(signature, 'latin1');
  return Buffer.concat([header, content]);
}
