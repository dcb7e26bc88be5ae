/**
 * Writes an ISO 9660 file system with Joliet and Rock Ridge: one directory of files, as bytes. It knows nothing of
 * VMs or of cloud-init.
 *
 * Sections are those of ECMA-119, 2nd edition; Joliet is the "Joliet Specification" of 1995.
 *
 *     sectors 0 to 15   system area, empty (6.2.1)
 *     16, 17, 18        primary volume descriptor, Joliet's, the end of them (8)
 *     19 to 22          path tables: plain and Joliet, each in both byte orders (9.4)
 *     23 …              the root directory, its continuation area, Joliet's root directory, the files
 */
import { Buffer } from 'node:buffer';
import { VmctlError } from '../errors.js';
import { type Directories, type DirectoryLayout, type Extent, directories, rootRecord } from './iso9660-directory.js';
import { SECTOR_BYTES, ascii, big32, both16, both32, little32, longDate, sectorsOf, ucs2 } from './iso9660-fields.js';
import { type DiscFile, discFiles } from './iso9660-names.js';

export interface IsoOptions {
  /** The volume's label: up to 16 printable ASCII characters, which is what Joliet holds. */
  readonly volume: string;
  /** A name has up to 255 bytes of UTF-8 and no `/`. */
  readonly files: readonly { readonly name: string; readonly content: Uint8Array }[];
  /** Of the volume and of every file; default now. Seconds count. */
  readonly time?: Date;
}

const DESCRIPTOR = { primary: 16, joliet: 17, end: 18 } as const;
const PATH_TABLE = { plain: { little: 19, big: 20 }, joliet: { little: 21, big: 22 } } as const;
const FIRST_FREE_SECTOR = 23;
/** A path table that holds the root alone (9.4). */
const PATH_TABLE_BYTES = 10;
const STANDARD_IDENTIFIER = Buffer.from('CD001', 'latin1');
/** UCS-2 level 3 (Joliet, "SVD Escape Sequences"). */
const JOLIET_ESCAPE = Buffer.from('%/E', 'latin1');

/** The file system's bytes, the same for the same options. Throws `INTERNAL` for a name or label that cannot be. */
export function buildIso(options: IsoOptions): Uint8Array {
  if (!/^[ -~]{1,16}$/.test(options.volume)) {
    throw new VmctlError('INTERNAL', `Internal error: ${JSON.stringify(options.volume)} cannot be a volume label`);
  }
  const time = options.time ?? new Date();
  const files = discFiles(options.files);
  // The directories have the same sizes wherever things are, so a draft tells them.
  const draft = directories(place(files, null), time);
  const layout = place(files, draft);
  const written = directories(layout, time);
  const image = Buffer.alloc(layout.sectors * SECTOR_BYTES);
  const put = (sector: number, bytes: Uint8Array): void => image.set(bytes, sector * SECTOR_BYTES);
  const volume = { label: options.volume, time, sectors: layout.sectors };
  put(DESCRIPTOR.primary, volumeDescriptor({ ...volume, kind: 'plain', root: layout.root }));
  put(DESCRIPTOR.joliet, volumeDescriptor({ ...volume, kind: 'joliet', root: layout.joliet }));
  put(DESCRIPTOR.end, Buffer.concat([Buffer.from([255]), STANDARD_IDENTIFIER, Buffer.from([1])]));
  put(PATH_TABLE.plain.little, pathTable(layout.root, 'little'));
  put(PATH_TABLE.plain.big, pathTable(layout.root, 'big'));
  put(PATH_TABLE.joliet.little, pathTable(layout.joliet, 'little'));
  put(PATH_TABLE.joliet.big, pathTable(layout.joliet, 'big'));
  put(layout.root.sector, written.root);
  put(layout.continuation.sector, written.continuation);
  put(layout.joliet.sector, written.joliet);
  for (const { file, extent } of layout.files) put(extent.sector, file.content);
  return image;
}

/** Where everything stands, one after the other. An empty file has a sector too, so that its extent is in the volume. */
function place(files: readonly DiscFile[], sizes: Directories | null): DirectoryLayout & { readonly sectors: number } {
  let next = FIRST_FREE_SECTOR;
  const take = (content: Uint8Array | undefined): Extent => {
    const extent = { sector: next, bytes: content?.length ?? 0 };
    next += Math.max(1, sectorsOf(extent.bytes));
    return extent;
  };
  const root = take(sizes?.root);
  const continuation = take(sizes?.continuation);
  const joliet = take(sizes?.joliet);
  const placed = files.map((file) => ({ file, extent: take(file.content) }));
  return { root, continuation, joliet, files: placed, sectors: next };
}

interface Volume {
  readonly kind: 'plain' | 'joliet';
  readonly label: string;
  readonly time: Date;
  readonly sectors: number;
  readonly root: Extent;
}

/** The primary volume descriptor (8.4), or the supplementary one that makes it Joliet (8.5). */
function volumeDescriptor({ kind, label, time, sectors, root }: Volume): Buffer {
  const plain = kind === 'plain';
  const text = plain ? ascii : ucs2;
  const tables = PATH_TABLE[kind];
  return Buffer.concat([
    Buffer.from([plain ? 1 : 2]),
    STANDARD_IDENTIFIER,
    Buffer.from([1, 0]), // version, flags
    text('', 32), // system
    text(label, 32),
    Buffer.alloc(8),
    both32(sectors),
    plain ? Buffer.alloc(32) : Buffer.concat([JOLIET_ESCAPE, Buffer.alloc(32 - JOLIET_ESCAPE.length)]),
    both16(1), // volumes in the set
    both16(1), // number of this one
    both16(SECTOR_BYTES),
    both32(PATH_TABLE_BYTES),
    little32(tables.little),
    little32(0), // no second copies
    big32(tables.big),
    big32(0),
    rootRecord(root, time),
    text('', 128), // volume set
    text('', 128), // publisher
    text('', 128), // data preparer
    text('VMCTL', 128), // application
    text('', 37), // copyright file
    text('', 37), // abstract file
    text('', 37), // bibliographic file
    longDate(time), // creation
    longDate(time), // modification
    longDate(null), // expiration
    longDate(null), // effective
    Buffer.from([1, 0]), // file structure version
  ]);
}

/** The path table of a volume whose only directory is the root (9.4). */
function pathTable(root: Extent, order: 'little' | 'big'): Buffer {
  const sector = order === 'little' ? little32(root.sector) : big32(root.sector);
  const parent = order === 'little' ? [1, 0] : [0, 1];
  return Buffer.concat([Buffer.from([1, 0]), sector, Buffer.from(parent), Buffer.from([0, 0])]);
}
