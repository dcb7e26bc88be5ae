/** A server's public key: as a line of OpenSSH's, as the bytes on the wire, and as the fingerprint that people compare. */
import { createHash } from 'node:crypto';
import { VmctlError } from '../errors.js';

export interface HostKey {
  /** The key's type, such as `ssh-ed25519`. */
  readonly type: string;
  /** As it travels (RFC 4253 6.6). */
  readonly blob: Buffer;
}

/** Reads `ssh-ed25519 AAAA… comment`. Throws `INTERNAL` when it is not such a line, for it is ours or was learned. */
export function parseHostKey(line: string): HostKey {
  const [type, base64] = line.trim().split(/\s+/);
  const blob = Buffer.from(base64 ?? '', 'base64');
  if (type === undefined || typeOf(blob) !== type) {
    throw new VmctlError('INTERNAL', `Internal error: this is not a public key: ${JSON.stringify(line)}`);
  }
  return { type, blob };
}

/** `ssh-ed25519 AAAA…`, the form of `parseHostKey` and of `known_hosts`, without a comment. */
export function formatHostKey(blob: Buffer): string {
  return `${typeOf(blob)} ${blob.toString('base64')}`;
}

/** As `ssh-keygen -l` shows it: `SHA256:` and base64 without padding. */
export function fingerprint(blob: Buffer): string {
  return `SHA256:${createHash('sha256').update(blob).digest('base64').replace(/=+$/, '')}`;
}

/** The names under which a key of this type is negotiated (RFC 8332 gives an RSA key two more). */
export function negotiableAs(type: string): readonly string[] {
  return type === 'ssh-rsa' ? ['rsa-sha2-512', 'rsa-sha2-256', 'ssh-rsa'] : [type];
}

function typeOf(blob: Buffer): string {
  if (blob.length < 4) return '';
  return blob.subarray(4, 4 + blob.readUInt32BE(0)).toString('latin1');
}
