/** The root directory of a disc, plain with Rock Ridge and in Joliet (ECMA-119, sections 6.8.1 and 9.1 to 9.3). */
import { Buffer } from 'node:buffer';
import { SECTOR_BYTES, both16, both32, sectorsOf, shortDate, ucs2Exactly } from './iso9660-fields.js';
import { type DiscFile, compareJoliet, comparePlain } from './iso9660-names.js';
import { alternateName, attributes, continuation, extensionReference, sharingProtocol } from './rock-ridge.js';

/** A run of sectors. */
export interface Extent {
  readonly sector: number;
  readonly bytes: number;
}

export interface PlacedFile {
  readonly file: DiscFile;
  readonly extent: Extent;
}

export interface DirectoryLayout {
  readonly root: Extent;
  /** Where Rock Ridge entries stand that have no room in their record. */
  readonly continuation: Extent;
  readonly joliet: Extent;
  readonly files: readonly PlacedFile[];
}

export interface Directories {
  readonly root: Buffer;
  readonly continuation: Buffer;
  readonly joliet: Buffer;
}

/** The length of a directory record is one byte and even (9.1.1, 9.1.13). */
const LONGEST_RECORD = 254;
const DIRECTORY_FLAG = 2;
const SELF = Buffer.from([0]);
const PARENT = Buffer.from([1]);

/** The bytes of both directories. Their sizes do not depend on where anything is. */
export function directories(layout: DirectoryLayout, time: Date): Directories {
  const area = new ContinuationArea(layout.continuation.sector);
  const directory = attributes({ directory: true, time });
  const first = Buffer.concat([sharingProtocol(), directory, area.add(extensionReference())]);
  const own = { time, directory: true, extent: layout.root };
  const root = [
    record({ ...own, identifier: SELF, systemUse: first }),
    record({ ...own, identifier: PARENT, systemUse: directory }),
    ...layout.files
      .toSorted((a, b) => comparePlain(a.file, b.file))
      .map(({ file, extent }) => {
        const identifier = Buffer.from(file.plain, 'latin1');
        const systemUse = fileEntries({ name: file.exact, time, room: LONGEST_RECORD - headBytes(identifier) }, area);
        return record({ time, directory: false, extent, identifier, systemUse });
      }),
  ];
  const ownJoliet = { time, directory: true, extent: layout.joliet };
  const joliet = [
    record({ ...ownJoliet, identifier: SELF }),
    record({ ...ownJoliet, identifier: PARENT }),
    ...layout.files
      .toSorted((a, b) => compareJoliet(a.file, b.file))
      .map(({ file, extent }) => record({ time, directory: false, extent, identifier: ucs2Exactly(file.joliet) })),
  ];
  return { root: inSectors(root), continuation: area.bytes(), joliet: inSectors(joliet) };
}

/** A file's Rock Ridge entries; a name that has no room in the record stands in the continuation area. */
function fileEntries(
  { name, time, room }: { readonly name: string; readonly time: Date; readonly room: number },
  area: ContinuationArea,
): Buffer {
  const [fixed, named] = [attributes({ directory: false, time }), alternateName(name)];
  return Buffer.concat([fixed, fixed.length + named.length <= room ? named : area.add(named)]);
}

/** System use entries that stand outside of their record, none of them across the end of a sector. */
class ContinuationArea {
  readonly #sector: number;
  readonly #parts: Buffer[] = [];
  #length = 0;

  constructor(sector: number) {
    this.#sector = sector;
  }

  /** Puts the entries there, and gives the `CE` entry that points at them. */
  add(entries: Buffer): Buffer {
    const start = startOf(entries, this.#length);
    this.#parts.push(entries);
    this.#length = start + entries.length;
    const sector = this.#sector + Math.floor(start / SECTOR_BYTES);
    return continuation({ sector, offset: start % SECTOR_BYTES, bytes: entries.length });
  }

  bytes(): Buffer {
    return inSectors(this.#parts);
  }
}

/** Parts one after the other, up to the end of a sector. */
function inSectors(parts: readonly Buffer[]): Buffer {
  const starts: number[] = [];
  let length = 0;
  for (const part of parts) {
    const start = startOf(part, length);
    starts.push(start);
    length = start + part.length;
  }
  const bytes = Buffer.alloc(sectorsOf(length) * SECTOR_BYTES);
  for (const [index, part] of parts.entries()) bytes.set(part, starts[index]);
  return bytes;
}

/** A part that would cross the end of a sector begins in the next one (6.8.1.1). */
function startOf(part: Buffer, length: number): number {
  const left = sectorsOf(length) * SECTOR_BYTES - length;
  return part.length > left ? length + left : length;
}

interface RecordFields {
  readonly directory: boolean;
  readonly extent: Extent;
  readonly identifier: Buffer;
  readonly time: Date;
  readonly systemUse?: Buffer;
}

/** A directory record (9.1). */
function record({ directory, extent, identifier, time, systemUse = Buffer.alloc(0) }: RecordFields): Buffer {
  const rest = Buffer.concat([
    both32(extent.sector),
    both32(extent.bytes),
    shortDate(time),
    Buffer.from([directory ? DIRECTORY_FLAG : 0, 0, 0]), // flags; not interleaved
    both16(1), // volume sequence number
    Buffer.from([identifier.length]),
    identifier,
    Buffer.alloc(1 - (identifier.length % 2)), // to an even length
    systemUse,
    Buffer.alloc(systemUse.length % 2),
  ]);
  return Buffer.concat([Buffer.from([rest.length + 2, 0]), rest]);
}

/** The length of a record before its system use entries. */
function headBytes(identifier: Buffer): number {
  return 33 + identifier.length + (1 - (identifier.length % 2));
}

/** The record of the root directory that stands in a volume descriptor (8.4.18). */
export function rootRecord(extent: Extent, time: Date): Buffer {
  return record({ directory: true, extent, identifier: SELF, time });
}
