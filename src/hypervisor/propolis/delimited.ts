/**
 * The lines that illumos prints for programs: fields between colons, a colon or a backslash inside a field behind a
 * backslash. `dladm -p` escapes only where more than one field was asked for.
 */

/** The fields of a line of several. */
export function splitFields(line: string): readonly string[] {
  const fields = [''];
  for (const [, escaped, plain] of line.matchAll(/\\(.)|(.)/g)) {
    if (plain === ':') fields.push('');
    else fields[fields.length - 1] += escaped ?? plain ?? '';
  }
  return fields;
}

/** Without the empty one at the end. */
export function linesOf(text: string): readonly string[] {
  return text.split('\n').filter((line) => line !== '');
}

/** A zone, as `zoneadm list -p` tells of it. */
export interface Zone {
  /** Null where it does not run. */
  readonly id: number | null;
  readonly name: string;
  readonly state: string;
  readonly path: string;
  /** Null before it is installed. */
  readonly uuid: string | null;
  readonly brand: string;
  readonly ipType: string;
}

/** Reads `zoneadm list -p`; fields that newer systems add are left alone, and lines with too few left out. */
export function parseZones(text: string): readonly Zone[] {
  return linesOf(text).flatMap((line) => {
    const [id, name, state, path, uuid, brand, ipType] = splitFields(line);
    if (id === undefined || name === undefined || state === undefined || path === undefined) return [];
    if (uuid === undefined || brand === undefined || ipType === undefined) return [];
    return [{ id: id === '-' ? null : Number(id), name, state, path, uuid: uuid === '' ? null : uuid, brand, ipType }];
  });
}

/** A virtual network card, as `dladm show-vnic` tells of it. */
export interface Vnic {
  readonly name: string;
  /** The link that it stands on. */
  readonly over: string;
  /** Lower case, two digits an octet, which dladm does not print. */
  readonly mac: string;
}

/** Reads `dladm show-vnic -p -o link,over,macaddress`. */
export function parseVnics(text: string): readonly Vnic[] {
  return linesOf(text).flatMap((line) => {
    const [name, over, mac] = splitFields(line);
    return name === undefined || over === undefined || mac === undefined ? [] : [{ name, over, mac: fullMac(mac) }];
  });
}

export function fullMac(mac: string): string {
  return mac
    .toLowerCase()
    .split(':')
    .map((octet) => octet.padStart(2, '0'))
    .join(':');
}

/** A volume, as `zfs list` tells of it. */
export interface Volume {
  readonly name: string;
  readonly bytes: number;
  /** The snapshot that it is a clone of. */
  readonly origin: string | null;
}

/** Reads `zfs list -H -p -o name,volsize,origin`, whose fields are between tabs and hold none. */
export function parseVolumes(text: string): readonly Volume[] {
  return linesOf(text).flatMap((line) => {
    const [name, bytes, origin] = line.split('\t');
    if (name === undefined || bytes === undefined || origin === undefined || !/^\d+$/.test(bytes)) return [];
    return [{ name, bytes: Number(bytes), origin: origin === '-' ? null : origin }];
  });
}

/** The address that the host knows for a MAC, from `arp -an`; null where it knows none. */
export function findInArp(text: string, mac: string): string | null {
  for (const line of linesOf(text)) {
    const words = line.trim().split(/\s+/);
    const last = words.at(-1) ?? '';
    const address = words.find((word) => /^\d{1,3}(?:\.\d{1,3}){3}$/.test(word));
    if (address !== undefined && /^[\da-f]{1,2}(?::[\da-f]{1,2}){5}$/i.test(last) && fullMac(last) === fullMac(mac)) {
      return address;
    }
  }
  return null;
}
