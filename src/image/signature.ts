/**
 * What a file is, by its first bytes. QEMU is never left to guess: what a guest writes to the start of a raw image
 * could make it look like another format, one that names files of the host (QEMU manual, "Disk image file formats",
 * and CVE-2008-2004). So vmctl decides once, here, and says the format explicitly ever after.
 */
import { Buffer } from 'node:buffer';

export type Compression = 'gzip' | 'zstd' | 'xz' | 'bzip2';

export type Signature =
  | { readonly kind: 'qcow2' }
  /** Nothing that is known, so a disk as it is; ISO images too. */
  | { readonly kind: 'raw' }
  | { readonly kind: 'compressed'; readonly by: Compression }
  /** A disk image in a format that vmctl does not take; `qemuFormat` is qemu-img's name for it. */
  | { readonly kind: 'disk'; readonly what: string; readonly qemuFormat: string | null }
  /** No disk image at all. */
  | { readonly kind: 'foreign'; readonly what: string };

/** So many bytes at the start are enough to tell. */
export const SIGNATURE_BYTES = 1024;

/** A fixed-size VHD is told by its footer alone: the last 512 bytes. */
export const FOOTER_BYTES = 512;

interface Known {
  readonly at?: number;
  readonly bytes: string;
  readonly signature: Signature;
}

const disk = (what: string, qemuFormat: string | null): Signature => ({ kind: 'disk', what, qemuFormat });
const compressed = (by: Compression): Signature => ({ kind: 'compressed', by });
const foreign = (what: string): Signature => ({ kind: 'foreign', what });

/** Bytes as Latin-1. */
const KNOWN: readonly Known[] = [
  // Version 1 of the same name is another format, which the third byte of the version tells apart.
  { bytes: 'QFI\xfb\0\0\0\x01', signature: disk('a QCOW version 1 image', 'qcow') },
  { bytes: 'QFI\xfb', signature: { kind: 'qcow2' } },
  { bytes: '\x1f\x8b', signature: compressed('gzip') },
  { bytes: '\x28\xb5\x2f\xfd', signature: compressed('zstd') },
  { bytes: '\xfd7zXZ\0', signature: compressed('xz') },
  { bytes: 'BZh', signature: compressed('bzip2') },
  { bytes: 'KDMV', signature: disk('a VMDK image', 'vmdk') },
  { bytes: 'COWD', signature: disk('a VMDK image', 'vmdk') },
  { bytes: '# Disk DescriptorFile', signature: disk('a VMDK descriptor', 'vmdk') },
  { at: 0x40, bytes: '\x7f\x10\xda\xbe', signature: disk('a VDI image', 'vdi') },
  { bytes: 'vhdxfile', signature: disk('a VHDX image', 'vhdx') },
  { bytes: 'conectix', signature: disk('a VHD image', 'vpc') },
  { bytes: 'QED\0', signature: disk('a QED image', 'qed') },
  { bytes: 'WithoutFreeSpace', signature: disk('a Parallels image', 'parallels') },
  { bytes: 'WithouFreSpacExt', signature: disk('a Parallels image', 'parallels') },
  { bytes: 'LUKS\xba\xbe', signature: disk('an encrypted (LUKS) image', null) },
  { bytes: 'PK\x03\x04', signature: foreign('a ZIP archive') },
  { bytes: '7z\xbc\xaf\x27\x1c', signature: foreign('a 7-Zip archive') },
  { bytes: '\x04\x22\x4d\x18', signature: foreign('LZ4-compressed') },
  { at: 257, bytes: 'ustar', signature: foreign('a tar archive') },
  { bytes: '\x7fELF', signature: foreign('a program') },
  { bytes: '%PDF-', signature: foreign('a PDF document') },
];

/** Decides by the first `SIGNATURE_BYTES` of a file, or by all of it if it is shorter. */
export function signatureOf(head: Uint8Array): Signature {
  const bytes = Buffer.from(head.buffer, head.byteOffset, Math.min(head.byteLength, SIGNATURE_BYTES));
  const text = bytes.toString('latin1');
  const known = KNOWN.find((entry) => text.startsWith(entry.bytes, entry.at ?? 0));
  return known?.signature ?? textSignature(text) ?? { kind: 'raw' };
}

/** Whether the last `FOOTER_BYTES` of a file are those of a VHD image. */
export function isVhdFooter(footer: Uint8Array): boolean {
  return Buffer.from(footer).toString('latin1', 0, 8) === 'conectix';
}

/** Error pages and login forms come with status 200 too. A disk's first sector is never all text. */
function textSignature(text: string): Signature | null {
  const start = text
    .replace(/^\xef\xbb\xbf/, '')
    .trimStart()
    .toLowerCase();
  if (/^<!doctype html|^<html/.test(start)) return foreign('an HTML page');
  if (/^<\?xml|^<[a-z]+[ >]/.test(start)) return foreign('an XML document');
  return text !== '' && /^[\t\r\n -~]+$/.test(text) ? foreign('a text file') : null;
}
