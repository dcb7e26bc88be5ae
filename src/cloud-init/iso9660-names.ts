/**
 * A file has three names on the disc: the exact one (Rock Ridge), one for Joliet, and one in the few characters that
 * plain ISO 9660 knows. The latter two are made from the first and are unique.
 */
import { Buffer } from 'node:buffer';
import { VmctlError } from '../errors.js';

export interface DiscFile {
  /** The name itself; UTF-8, as Linux shows it. */
  readonly exact: string;
  /** Without version number, as other writers do it. */
  readonly joliet: string;
  /** Interchange level 2, with its version: `USER_DATA.;1`. */
  readonly plain: string;
  readonly content: Uint8Array;
}

/** Linux has no longer names. */
const LONGEST_NAME_BYTES = 255;
/** 128 bytes of UCS-2 (Joliet, "Joliet Directory Record Identifier Length"). */
const LONGEST_JOLIET = 64;
/** Name and extension have 30 characters together (ECMA-119, 7.5.1). */
const LONGEST_STEM = 21;
const LONGEST_EXTENSION = 9;

/** Throws `INTERNAL` for what cannot be a file name, or is there twice. */
export function discFiles(
  files: readonly { readonly name: string; readonly content: Uint8Array }[],
): readonly DiscFile[] {
  const joliet = new Set<string>();
  const plain = new Set<string>();
  const exact = new Set<string>();
  return files.map(({ name, content }) => {
    checkName(name);
    if (exact.has(name)) throw new VmctlError('INTERNAL', `Internal error: two files of an ISO are called ${name}`);
    exact.add(name);
    return { exact: name, joliet: jolietName(name, joliet), plain: plainName(name, plain), content };
  });
}

/** The order of directory records: by name, then by extension, both filled up with spaces (ECMA-119, 9.3). */
export function comparePlain(a: DiscFile, b: DiscFile): number {
  const key = ({ plain }: DiscFile): string => {
    const [stem = '', extension = ''] = plain.replace(/;1$/, '').split('.');
    return stem.padEnd(LONGEST_STEM, ' ') + extension.padEnd(LONGEST_EXTENSION, ' ');
  };
  return key(a) < key(b) ? -1 : 1;
}

/** The same order for Joliet, by code units. */
export function compareJoliet(a: DiscFile, b: DiscFile): number {
  return a.joliet < b.joliet ? -1 : 1;
}

function checkName(name: string): void {
  const bytes = Buffer.byteLength(name);
  const possible = name !== '' && name !== '.' && name !== '..' && !/[/\0]/.test(name) && bytes <= LONGEST_NAME_BYTES;
  // A lone surrogate has no UTF-8, so two such names would become one.
  if (!possible || Buffer.from(name).toString() !== name) {
    throw new VmctlError('INTERNAL', `Internal error: ${JSON.stringify(name)} cannot be a file name`);
  }
}

/** Not allowed are control characters and `* / : ; ? \` (Joliet, "Allowed Character Set"); surrogates are not UCS-2. */
function jolietName(name: string, taken: Set<string>): string {
  // oxlint-disable-next-line no-control-regex -- control characters are what is looked for
  const base = name.replace(/[\u0000-\u001f*/:;?\\\ud800-\udfff]/g, '_');
  return claim(taken, (suffix) => base.slice(0, LONGEST_JOLIET - suffix.length) + suffix, '~');
}

/** Upper-case letters, digits and `_` (ECMA-119, 7.4.1 and 7.5). */
function plainName(name: string, taken: Set<string>): string {
  const dot = name.lastIndexOf('.');
  const stem = plainCharacters(dot > 0 ? name.slice(0, dot) : name) || '_';
  const extension = dot > 0 ? plainCharacters(name.slice(dot + 1)).slice(0, LONGEST_EXTENSION) : '';
  const build = (suffix: string): string => `${stem.slice(0, LONGEST_STEM - suffix.length)}${suffix}.${extension};1`;
  return claim(taken, build, '_');
}

function plainCharacters(text: string): string {
  return text.toUpperCase().replace(/[^A-Z0-9_]/g, '_');
}

/** The first of the names without and with a number that is free. */
function claim(taken: Set<string>, build: (suffix: string) => string, mark: string): string {
  let name = build('');
  for (let number = 1; taken.has(name); number++) name = build(`${mark}${number}`);
  taken.add(name);
  return name;
}
