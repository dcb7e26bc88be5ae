/** Whether a text is an SSH public key as it stands in a `.pub` file (sshd(8), "AUTHORIZED_KEYS FILE FORMAT"). */

const TYPES: readonly string[] = [
  'ssh-ed25519',
  'ssh-rsa',
  'ecdsa-sha2-nistp256',
  'ecdsa-sha2-nistp384',
  'ecdsa-sha2-nistp521',
  'sk-ssh-ed25519@openssh.com',
  'sk-ecdsa-sha2-nistp256@openssh.com',
];

/** What is wrong with it as the one key that a guest is given, to stand behind the file's name; null for a key. */
export function publicKeyProblem(text: string): string | null {
  const lines = text.split(/\r?\n/).filter((line) => line.trim() !== '');
  const [line] = lines;
  if (line === undefined) return 'is empty';
  if (/^-----? ?BEGIN /.test(line)) return 'is not in OpenSSH’s format';
  if (lines.length > 1) return `has ${lines.length} lines, and a public key has one`;
  const [type = '', base64] = line.trim().split(/[ \t]+/);
  if (base64 === undefined || !TYPES.includes(type)) return 'is not an SSH public key';
  if (!/^[A-Za-z0-9+/]+={0,2}$/.test(base64)) return 'is not an SSH public key: its second word is not base64';
  return isWhole(Buffer.from(base64, 'base64'), type)
    ? null
    : 'is not a whole SSH public key: it was cut off or changed';
}

/** Strings with their lengths before them, of which the first is the type (RFC 4253, section 6.6). */
function isWhole(blob: Buffer, type: string): boolean {
  let at = 0;
  let count = 0;
  while (at + 4 <= blob.length) {
    const end = at + 4 + blob.readUInt32BE(at);
    if (count === 0 && blob.toString('latin1', at + 4, end) !== type) return false;
    at = end;
    count += 1;
  }
  return at === blob.length && count > 1;
}
