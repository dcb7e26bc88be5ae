/**
 * Ed25519 key pairs and public keys in OpenSSH's formats, with nothing but node:crypto.
 *
 * The private key is written here. node:crypto gives both halves as DER, where each always has its 32 bytes behind a
 * fixed prefix (RFC 8410, sections 4 and 7). Not as JWK: in Node 20 a garbage collection during that export of a
 * generated key can lock the key's mutex a second time, and the process stands still for ever.
 */
import { Buffer } from 'node:buffer';
import { createHash, generateKeyPairSync, randomBytes } from 'node:crypto';
import { VmctlError } from '../errors.js';
import type { KeyPair } from '../model/vm.js';

const ED25519 = 'ssh-ed25519';
const ED25519_BYTES = 32;
/** What stands before the key itself in PKCS #8 and in SubjectPublicKeyInfo: lengths and the OID 1.3.101.112. */
const PKCS8_PREFIX = Buffer.from('302e020100300506032b657004220420', 'hex');
const SPKI_PREFIX = Buffer.from('302a300506032b6570032100', 'hex');
/** ssh-keygen breaks the lines of a private key here. */
const PEM_LINE = 70;
/** The block size of the cipher `none` (PROTOCOL.key, section 3). */
const BLOCK_BYTES = 8;

/** A public key as it stands in a `.pub` file. */
export interface PublicKey {
  /** `ssh-ed25519`, `ssh-rsa`, … */
  readonly type: string;
  /** The key itself in SSH's wire format (RFC 4253, section 6.6). */
  readonly blob: Buffer;
  /** Empty where there is none. */
  readonly comment: string;
}

/** Makes an Ed25519 key pair. The comment ends up in both files and must be one line of printable characters. */
export function generateKeyPair(comment: string): KeyPair {
  // oxlint-disable-next-line no-control-regex -- control characters are what is looked for
  if (/[\u0000-\u001f\u007f-\u009f\u2028\u2029]/.test(comment)) {
    throw new VmctlError('INTERNAL', `Internal error: ${JSON.stringify(comment)} cannot be the comment of a key`);
  }
  const der = generateKeyPairSync('ed25519', {
    privateKeyEncoding: { format: 'der', type: 'pkcs8' },
    publicKeyEncoding: { format: 'der', type: 'spki' },
  });
  const seed = afterPrefix(der.privateKey, PKCS8_PREFIX);
  const point = afterPrefix(der.publicKey, SPKI_PREFIX);
  const blob = Buffer.concat([wireString(ED25519), wireString(point)]);
  const trimmed = comment.trim();
  return {
    privateKey: pem(privateKeyFile({ seed, point, blob, comment: trimmed })),
    publicKey: `${ED25519} ${blob.toString('base64')}${trimmed === '' ? '' : ` ${trimmed}`}`,
  };
}

/**
 * Reads one line of a `.pub` file: type, base64 and an optional comment (sshd(8), AUTHORIZED_KEYS FILE FORMAT, without
 * options). Throws `FILE_NOT_FOUND`, which also means "cannot be read", with the reason; the caller knows the path.
 */
export function parsePublicKey(line: string): PublicKey {
  const text = line.trim();
  if (text.startsWith('-----BEGIN') && text.includes('PRIVATE KEY')) throw malformed('it is a private key');
  if (text.startsWith('-----BEGIN') || text.startsWith('---- BEGIN')) throw malformed('it is not in OpenSSH’s format');
  if (/[\r\n]/.test(text)) throw malformed('it has more than one line');
  const match = /^(\S+)[ \t]+(\S+)(?:[ \t]+(.*))?$/.exec(text);
  const [type, base64] = [match?.[1], match?.[2]];
  if (type === undefined || base64 === undefined) throw malformed('it is not of the form "TYPE BASE64 COMMENT"');
  const blob = Buffer.from(base64, 'base64');
  if (blob.toString('base64').replace(/=+$/, '') !== base64.replace(/=+$/, '')) {
    throw malformed('its second word is not base64');
  }
  const parts = wireStrings(blob);
  const named = parts[0]?.toString('latin1');
  if (named !== type) throw malformed(`it says ${type}, but the key itself is of another type or cut off`);
  if (type === ED25519 && (parts.length !== 2 || parts[1]?.length !== ED25519_BYTES)) {
    throw malformed(`an Ed25519 key has ${ED25519_BYTES} bytes and nothing else`);
  }
  return { type, blob, comment: match?.[3] ?? '' };
}

/** The fingerprint as OpenSSH prints it: `SHA256:` and unpadded base64. */
export function fingerprint(blob: Uint8Array): string {
  return `SHA256:${createHash('sha256').update(blob).digest('base64').replace(/=+$/, '')}`;
}

/**
 * A line of a `known_hosts` file, with its newline (sshd(8), SSH_KNOWN_HOSTS FILE FORMAT).
 * `publicKey` is a line of a `.pub` file; the alias is what ssh is told with `HostKeyAlias`.
 */
export function knownHostsLine(alias: string, publicKey: string): string {
  if (!/^[A-Za-z0-9_][A-Za-z0-9._:-]*$/.test(alias)) {
    throw new VmctlError('INTERNAL', `Internal error: ${JSON.stringify(alias)} cannot stand in a known_hosts file`);
  }
  const { type, blob } = parsePublicKey(publicKey);
  return `${alias} ${type} ${blob.toString('base64')}\n`;
}

interface KeyParts {
  readonly seed: Buffer;
  readonly point: Buffer;
  readonly blob: Buffer;
  readonly comment: string;
}

/** The bytes of an unencrypted private key file (OpenSSH's PROTOCOL.key). */
function privateKeyFile({ seed, point, blob, comment }: KeyParts): Buffer {
  const check = randomBytes(4);
  const secret = Buffer.concat([
    check,
    check,
    wireString(ED25519),
    wireString(point),
    wireString(Buffer.concat([seed, point])),
    wireString(comment),
  ]);
  const padding = Buffer.from(Array.from({ length: -secret.length & (BLOCK_BYTES - 1) }, (_, index) => index + 1));
  return Buffer.concat([
    Buffer.from('openssh-key-v1\0', 'latin1'),
    wireString('none'), // cipher
    wireString('none'), // key derivation
    wireString(''), // its options
    uint32(1), // number of keys
    wireString(blob),
    wireString(Buffer.concat([secret, padding])),
  ]);
}

function pem(bytes: Buffer): string {
  const base64 = bytes.toString('base64');
  const lines: string[] = [];
  for (let start = 0; start < base64.length; start += PEM_LINE) lines.push(base64.slice(start, start + PEM_LINE));
  return ['-----BEGIN OPENSSH PRIVATE KEY-----', ...lines, '-----END OPENSSH PRIVATE KEY-----', ''].join('\n');
}

function afterPrefix(der: Buffer, prefix: Buffer): Buffer {
  if (der.length !== prefix.length + ED25519_BYTES || der.compare(prefix, 0, prefix.length, 0, prefix.length) !== 0) {
    throw new VmctlError(
      'INTERNAL',
      `Internal error: an Ed25519 key came out in an unknown form (${der.length} bytes)`,
    );
  }
  return der.subarray(prefix.length);
}

/** SSH's `string`: its length and its bytes (RFC 4251, section 5). */
function wireString(value: string | Uint8Array): Buffer {
  const bytes = Buffer.from(value);
  return Buffer.concat([uint32(bytes.length), bytes]);
}

/** The strings that a blob consists of, as far as they are complete. */
function wireStrings(blob: Buffer): readonly Buffer[] {
  const parts: Buffer[] = [];
  let offset = 0;
  while (offset + 4 <= blob.length) {
    const end = offset + 4 + blob.readUInt32BE(offset);
    if (end > blob.length) return [];
    parts.push(blob.subarray(offset + 4, end));
    offset = end;
  }
  return offset === blob.length ? parts : [];
}

function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

function malformed(reason: string): VmctlError {
  return new VmctlError('FILE_NOT_FOUND', `this is not an SSH public key: ${reason}`, {
    hint: 'Name the public key file, such as ~/.ssh/id_ed25519.pub: one line with type, key and comment.',
    fields: { reason },
  });
}
