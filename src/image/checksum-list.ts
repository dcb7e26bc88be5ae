/**
 * Finds one file's checksum in a list such as `SHA256SUMS`. Pure. What is read: the lines of GNU coreutils and of BSD
 * (`sha256sum`, `sha256sum --tag`, `openssl dgst`), a single bare digest, and both inside a clear-signed PGP message.
 *
 * A signature is not verified: vmctl has no keys of distributions, and a key that came from the server of the list
 * would prove no more than https does. What stands outside of the signed part is ignored all the same.
 */
import type { Checksum } from '../model/spec.js';

export type ChecksumLookup =
  | { readonly kind: 'found'; readonly checksum: Checksum }
  /** The list is one, without this file; `near` are the most similar names in it, the best first. */
  | { readonly kind: 'absent'; readonly near: readonly string[] }
  /** The list has the file, with algorithms alone that vmctl does not take: `MD5`, `SHA1`. */
  | { readonly kind: 'unsupported'; readonly algorithms: readonly string[] }
  /** The list has several digests of one algorithm for the file. */
  | { readonly kind: 'ambiguous'; readonly algorithm: Checksum['algorithm']; readonly digests: readonly string[] }
  | { readonly kind: 'no-list'; readonly content: NoList };

/** What a text is that holds no checksum at all. */
export type NoList = 'empty' | 'HTML' | 'binary' | 'signature' | 'other';

interface Entry {
  /** Null where a digest stands alone. */
  readonly name: string | null;
  /** As BSD names it, in upper case. */
  readonly algorithm: string;
  /** In lower case. */
  readonly digest: string;
}

/** Hexadecimal digits of what the usual tools print: the GNU format does not name its algorithm. */
const ALGORITHM_BY_LENGTH: ReadonlyMap<number, string> = new Map([
  [32, 'MD5'],
  [40, 'SHA1'],
  [56, 'SHA224'],
  [64, 'SHA256'],
  [96, 'SHA384'],
  [128, 'SHA512'],
]);

/**
 * By preference. The SHA-256 of every download is computed anyway, to record it; a SHA-512 is one more pass over every
 * byte, and what is asked here is whether the bytes are those of the list, for which either is more than enough.
 */
const TAKEN: readonly { readonly algorithm: Checksum['algorithm']; readonly name: string }[] = [
  { algorithm: 'sha256', name: 'SHA256' },
  { algorithm: 'sha512', name: 'SHA512' },
];

const MAX_NEAR = 3;

/** Looks for a file by its plain name: folders before the names in the list do not count, unless they tell two apart. */
export function findChecksum(text: string, fileName: string): ChecksumLookup {
  const content = signedPart(text.replace(/^\uFEFF/, ''));
  const entries = content.split(/\r?\n/).flatMap((line) => entryOf(line) ?? []);
  if (entries.length === 0) return { kind: 'no-list', content: contentOf(text) };
  const own = entriesFor(entries, fileName);
  if (own.length === 0) return { kind: 'absent', near: nearest(entries, fileName) };
  return choose(own);
}

function choose(entries: readonly Entry[]): ChecksumLookup {
  let found: Checksum | null = null;
  for (const { algorithm, name } of TAKEN) {
    const digests = [...new Set(entries.filter((entry) => entry.algorithm === name).map(({ digest }) => digest))];
    const [digest] = digests;
    if (digest === undefined) continue;
    // A list that contradicts itself is no better for another algorithm.
    if (digests.length > 1) return { kind: 'ambiguous', algorithm, digests };
    found ??= { algorithm, digest };
  }
  if (found !== null) return { kind: 'found', checksum: found };
  return { kind: 'unsupported', algorithms: [...new Set(entries.map(({ algorithm }) => algorithm))] };
}

/** Those of exactly this name, else of this name in a folder, else a digest without a name when nothing has one. */
function entriesFor(entries: readonly Entry[], fileName: string): readonly Entry[] {
  if (entries.every(({ name }) => name === null)) return entries;
  const exact = entries.filter(({ name }) => name === fileName || name === `./${fileName}`);
  return exact.length > 0 ? exact : entries.filter(({ name }) => name !== null && baseName(name) === fileName);
}

/** The message of a clear-signed text (RFC 9580, section 7), its dash-escapes undone; any other text as it is. */
function signedPart(text: string): string {
  const start = /^-----BEGIN PGP SIGNED MESSAGE-----[ \t]*\r?\n/m.exec(text);
  if (start === null) return text;
  const rest = text.slice(start.index + start[0].length);
  // `Hash:` lines, and an empty one.
  const headers = /^(?:[A-Za-z-]+: .*\r?\n)*[ \t]*\r?\n/.exec(rest)?.[0] ?? '';
  const message = rest.slice(headers.length);
  const end = /^-----BEGIN PGP SIGNATURE-----/m.exec(message);
  return message.slice(0, end?.index ?? message.length).replaceAll(/^- /gm, '');
}

function entryOf(line: string): Entry | null {
  return bsdEntry(line) ?? gnuEntry(line);
}

/** `SHA256 (NAME) = HEX`; OpenSSL writes `SHA2-256(NAME)= HEX`. */
function bsdEntry(line: string): Entry | null {
  const [, escape, tag = '', name = '', digest = ''] =
    /^(\\)?([A-Za-z0-9][A-Za-z0-9/-]*) ?\((.+)\) ?= ([0-9a-fA-F]+)[ \t]*$/.exec(line) ?? [];
  const algorithm = tag
    .toUpperCase()
    .replace(/^SHA2-/, 'SHA')
    .replace(/^SHA-(?=\d)/, 'SHA');
  if (algorithm === '') return null;
  // One of another length is damaged; to take it for what its length says would take a lie for a promise.
  const taken = TAKEN.some((one) => one.name === algorithm);
  if (taken && ALGORITHM_BY_LENGTH.get(digest.length) !== algorithm) return null;
  return { name: unescaped(name, escape !== undefined), algorithm, digest: digest.toLowerCase() };
}

/** `HEX  NAME`, `HEX *NAME`; openSUSE has had one space alone. Without a name, or with that of stdin, a bare digest. */
function gnuEntry(line: string): Entry | null {
  const [, escape, digest = '', name] = /^(\\)?([0-9a-fA-F]{32,128})(?:(?: [ *]|[ \t])(.*))?$/.exec(line) ?? [];
  const algorithm = ALGORITHM_BY_LENGTH.get(digest.length);
  if (algorithm === undefined) return null;
  const bare = name === undefined || name.trim() === '' || name === '-';
  return { name: bare ? null : unescaped(name, escape !== undefined), algorithm, digest: digest.toLowerCase() };
}

/** A backslash before a line says that its name has escapes (GNU coreutils, "cksum output modes"). */
function unescaped(name: string, escaped: boolean): string {
  if (!escaped) return name;
  return name.replaceAll(/\\([\\nr])/g, (_, letter) => (letter === 'n' ? '\n' : letter === 'r' ? '\r' : '\\'));
}

function baseName(path: string): string {
  return path.slice(path.lastIndexOf('/') + 1);
}

/** Names of images are long and made of parts: those that share at least half of them. */
function nearest(entries: readonly Entry[], fileName: string): readonly string[] {
  const names = new Set(entries.flatMap(({ name }) => (name === null ? [] : [baseName(name)])));
  return Array.from(names, (name) => ({ name, likeness: likeness(name, fileName) }))
    .filter((candidate) => candidate.likeness >= 0.5)
    .toSorted((a, b) => b.likeness - a.likeness)
    .slice(0, MAX_NEAR)
    .map(({ name }) => name);
}

/** Shared parts among all parts: 0 to 1. */
function likeness(a: string, b: string): number {
  const [first, second] = [a, b].map((name) => new Set(name.toLowerCase().split(/[-._]/)));
  if (first === undefined || second === undefined) return 0;
  const shared = [...first].filter((part) => second.has(part)).length;
  return shared / (first.size + second.size - shared);
}

function contentOf(text: string): NoList {
  if (text.trim() === '') return 'empty';
  // U+FFFD is what decoding makes of bytes that are no UTF-8.
  if (/[\0\uFFFD]/.test(text)) return 'binary';
  if (/^\s*<(?:!doctype|html|\?xml)/i.test(text)) return 'HTML';
  return /^-----BEGIN PGP SIGNATURE-----/m.test(text) ? 'signature' : 'other';
}
