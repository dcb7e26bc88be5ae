/** What names, paths and addresses may look like. Each rule gives the reason why a text is refused, or null. */
import { isIPv4 } from 'node:net';
import { readOciReference } from '../model/oci-reference.js';
import type { ChecksumSource } from '../model/spec.js';
import type { Parsed } from './sizes.js';

/** Null when the text is fine, else the reason why it is not, to follow "…, but". */
export type Rule = (text: string) => string | null;

// C0, DEL and C1. KDL itself refuses most of them unescaped, but "\u{7}" is KDL.
const CONTROL = /\p{Cc}/u;

/** A text that ends up on one line somewhere: not empty, no control characters, no line ends. */
export const oneLine: Rule = (text) => {
  if (text === '') return 'it is empty';
  if (/[\n\r\u2028\u2029]/.test(text)) return 'it has a line break';
  return CONTROL.test(text) ? 'it has a control character' : null;
};

/** Text of any number of lines; only NUL, which no program can be given, is refused. */
export const script: Rule = (text) => {
  if (text.trim() === '') return 'it is empty';
  return text.includes('\0') ? 'it has a NUL character' : null;
};

/**
 * A VM's name. It becomes a directory and a hostname: 1 to 63 of `a-z A-Z 0-9 . _ -`, a letter or digit first, and no
 * empty host label (two dots in a row, or a dot at the end).
 */
export const vmName: Rule = (text) => {
  if (text === '') return 'it is empty';
  if (text.length > 63) return `it has ${text.length} characters and 63 are the limit`;
  const wrong = /[^a-zA-Z0-9._-]/u.exec(text)?.[0];
  if (wrong !== undefined) return `it has ${describeCharacter(wrong)}`;
  if (!/^[a-zA-Z0-9]/.test(text)) return `it starts with \`${text.slice(0, 1)}\``;
  if (text.includes('..')) return 'it has two dots in a row';
  return text.endsWith('.') ? 'it ends with a dot' : null;
};

/** Host labels by RFC 1123 section 2.1, separated by dots, 253 characters at most. */
export const hostname: Rule = (text) => {
  if (text === '') return 'it is empty';
  if (text.length > 253) return `it has ${text.length} characters and 253 are the limit`;
  const wrong = /[^a-zA-Z0-9.-]/u.exec(text)?.[0];
  if (wrong !== undefined) return `it has ${describeCharacter(wrong)}`;
  for (const label of text.split('.')) {
    if (label === '') return 'a part between its dots is empty';
    if (label.length > 63) return `\`${label.slice(0, 12)}…\` has ${label.length} characters and 63 are the limit`;
    if (label.startsWith('-') || label.endsWith('-')) return `\`${label}\` starts or ends with a hyphen`;
  }
  return null;
};

/** A user that `useradd` of the usual distributions makes: `^[a-z_][a-z0-9_-]{0,31}$`, so no upper case. */
export const unixUser: Rule = (text) => {
  if (text === '') return 'it is empty';
  if (text.length > 32) return `it has ${text.length} characters and 32 are the limit`;
  const wrong = /[^a-z0-9_-]/u.exec(text)?.[0];
  if (wrong !== undefined) {
    return /[A-Z]/.test(wrong) ? `it has the upper-case letter \`${wrong}\`` : `it has ${describeCharacter(wrong)}`;
  }
  return /^[a-z_]/.test(text) ? null : `it starts with \`${text.slice(0, 1)}\``;
};

/** A network interface of the host: 15 characters (IFNAMSIZ of Linux) of letters, digits, `.`, `_` and `-`. */
export const interfaceName: Rule = (text) => {
  if (text === '') return 'it is empty';
  if (text.length > 15) return `it has ${text.length} characters and 15 are the limit`;
  const wrong = /[^a-zA-Z0-9._-]/u.exec(text)?.[0];
  return wrong === undefined ? null : `it has ${describeCharacter(wrong)}`;
};

/** A link of illumos (dladm(8)): 31 of letters, digits, `.` and `_`; no digit first, and a digit last. */
export const vnicName: Rule = (text) => {
  if (text === '') return 'it is empty';
  if (text.length > 31) return `it has ${text.length} characters and 31 are the limit`;
  const wrong = /[^a-zA-Z0-9._]/u.exec(text)?.[0];
  if (wrong !== undefined) return `it has ${describeCharacter(wrong)}`;
  if (/^\d/.test(text)) return `it starts with the digit \`${text.slice(0, 1)}\``;
  return /\d$/.test(text) ? null : 'it does not end with a digit';
};

/** The name of an environment variable that every POSIX shell can export. */
export const environmentName: Rule = (text) =>
  /^[A-Za-z_][A-Za-z0-9_]*$/.test(text) ? null : 'only letters, digits and `_` can be in it, and no digit first';

export const ipv4Address: Rule = (text) => (isIPv4(text) ? null : 'it is not an IPv4 address');

const IMAGE_SCHEMES: ReadonlySet<string> = new Set(['https:', 'http:', 'file:']);

/** The URL of an image: https, http, file or oci. */
export const imageUrl: Rule = (text) => {
  const line = oneLine(text);
  if (line !== null) return line;
  if (/\s/.test(text)) return 'it has a space';
  if (/^[a-z]+:$/i.test(text)) return 'outside of quotes, `//` starts a comment';
  if (/^oci:/i.test(text)) {
    const reference = readOciReference(text);
    return reference.ok ? null : reference.problem;
  }
  if (!URL.canParse(text)) return /^[a-z][a-z0-9+.-]*:/i.test(text) ? 'it is not a URL' : 'it has no scheme';
  const url = new URL(text);
  if (!IMAGE_SCHEMES.has(url.protocol)) return `it has the scheme \`${url.protocol.slice(0, -1)}\``;
  return url.host === '' && url.protocol !== 'file:' ? 'it names no host' : null;
};

/** Whether a text that should be a path is the URL of an image. */
export function isUrl(text: string): boolean {
  return /^(?:https?|file|oci):\/\//i.test(text);
}

const DIGEST_LENGTHS = { sha256: 64, sha512: 128 } as const;

/** `sha256:HEX`, `sha512:HEX` or the URL of a file of checksums, taken apart. */
export function parseChecksum(text: string): Parsed<ChecksumSource> {
  if (/^(?:https?|file):\/\//i.test(text)) {
    const wrong = imageUrl(text);
    return wrong === null ? { ok: true, value: { algorithm: 'list', url: text } } : { ok: false, problem: wrong };
  }
  const [, name = '', digest = ''] = /^([^:]*):(.*)$/s.exec(text) ?? [];
  const algorithm = name === 'sha256' || name === 'sha512' ? name : null;
  if (algorithm === null) {
    return {
      ok: false,
      problem: name === '' ? 'it names no algorithm' : `\`${name}\` is no algorithm that vmctl checks`,
    };
  }
  const wrong = /[^0-9a-f]/iu.exec(digest)?.[0];
  if (wrong !== undefined) {
    return { ok: false, problem: `${describeCharacter(wrong)} is no hexadecimal digit`.replace(/^a /, 'the ') };
  }
  if (digest.length !== DIGEST_LENGTHS[algorithm]) {
    const expected = `${algorithm} has ${DIGEST_LENGTHS[algorithm]} hexadecimal digits`;
    return { ok: false, problem: `${expected}, this has ${digest.length}` };
  }
  return { ok: true, value: { algorithm, digest: digest.toLowerCase() } };
}

function describeCharacter(character: string): string {
  if (character === ' ') return 'a space';
  if (character === '/') return 'a slash';
  if (/[\p{C}\p{Z}]/u.test(character)) {
    return `the character U+${(character.codePointAt(0) ?? 0).toString(16).toUpperCase().padStart(4, '0')}`;
  }
  return `the character \`${character}\``;
}
