import { Buffer } from 'node:buffer';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import ssh2 from 'ssh2';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { VmctlError } from '../../src/errors.js';
import { fingerprint, generateKeyPair, knownHostsLine, parsePublicKey } from '../../src/ssh/keys.js';
import { runCommand } from '../../src/util/exec.js';

let directory: string;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'vmctl-keys-'));
});

afterEach(async () => {
  await rm(directory, { recursive: true, force: true });
});

describe('a generated key pair', () => {
  test('is what ssh-keygen reads from its private key, 3000 times out of 3000', { timeout: 120_000 }, async () => {
    const pairs = Array.from({ length: 3000 }, (_, index) => generateKeyPair(`vm-${index}`));
    const name = (index: number): string => join(directory, String(index).padStart(4, '0'));
    await Promise.all(pairs.map((pair, index) => writeFile(name(index), pair.privateKey, { mode: 0o600 })));
    const loop = 'for key in "$1"/*; do ssh-keygen -y -P "" -f "$key" || exit 1; done';
    const { stdout } = await runCommand('sh', ['-c', loop, 'sh', directory]);
    expect(stdout.split('\n')).toEqual(pairs.map((pair) => pair.publicKey));
  });

  test('does not depend on when garbage is collected', async () => {
    const outfile = join(directory, 'keys.mjs');
    const keys = fileURLToPath(new URL('../../src/ssh/keys.ts', import.meta.url));
    await build({ entryPoints: [keys], outfile, bundle: true, format: 'esm', platform: 'node' });
    const program = join(directory, 'program.mjs');
    await writeFile(
      program,
      `import { generateKeyPair } from './keys.mjs';
       for (let count = 0; count < 10_000; count++) generateKeyPair('web');
       console.log('done');`,
    );
    const { stdout } = await runCommand(process.execPath, ['--random-gc-interval=50', program], { timeoutMs: 25_000 });
    expect(stdout).toBe('done');
  });

  test('is accepted by ssh2, with its comment', () => {
    for (let count = 0; count < 300; count++) {
      const pair = generateKeyPair('vmctl web');
      const [secret, open] = [ssh2.utils.parseKey(pair.privateKey), ssh2.utils.parseKey(pair.publicKey)];
      if (secret instanceof Error) throw secret;
      if (open instanceof Error) throw open;
      expect(secret.isPrivateKey()).toBe(true);
      expect(secret.comment).toBe('vmctl web');
      expect(secret.getPublicSSH()).toEqual(open.getPublicSSH());
      const signature = secret.sign('message');
      expect(open.verify('message', signature)).toBe(true);
    }
  });

  test('has the shape of a file that ssh-keygen writes', () => {
    const { privateKey, publicKey } = generateKeyPair('web');
    const lines = privateKey.split('\n');
    expect(lines[0]).toBe('-----BEGIN OPENSSH PRIVATE KEY-----');
    expect(lines.slice(-2)).toEqual(['-----END OPENSSH PRIVATE KEY-----', '']);
    expect(Math.max(...lines.slice(1, -2).map((line) => line.length))).toBe(70);
    expect(publicKey).toMatch(/^ssh-ed25519 [A-Za-z0-9+/]+=* web$/);
  });

  test('is another one each time', () => {
    expect(generateKeyPair('web').publicKey).not.toBe(generateKeyPair('web').publicKey);
  });

  test('needs no comment', () => {
    expect(generateKeyPair('').publicKey.split(' ')).toHaveLength(2);
  });

  test('refuses a comment that would be a line of its own', () => {
    expect(() => generateKeyPair('web\nssh-ed25519 AAAA')).toThrow('cannot be the comment of a key');
  });
});

describe('a public key', () => {
  test('is read into its parts', () => {
    const { publicKey } = generateKeyPair('me at home');
    const { type, blob, comment } = parsePublicKey(`${publicKey}\n`);
    expect(type).toBe('ssh-ed25519');
    expect(blob.toString('base64')).toBe(publicKey.split(' ')[1]);
    expect(comment).toBe('me at home');
  });

  test.each([
    ['rsa', ['-b', '1024']],
    ['ecdsa', []],
    ['ed25519', []],
  ])('of type %s has the fingerprint that ssh-keygen prints', async (type, options) => {
    const path = join(directory, type);
    await runCommand('ssh-keygen', ['-q', '-t', type, ...options, '-N', '', '-C', 'a comment', '-f', path]);
    const { stdout: line } = await runCommand('ssh-keygen', ['-y', '-f', path]);
    const { stdout: listed } = await runCommand('ssh-keygen', ['-l', '-f', `${path}.pub`]);
    const key = parsePublicKey(line);
    expect(listed.split(' ')[1]).toBe(fingerprint(key.blob));
    expect(key.comment).toBe('a comment');
  });

  const { publicKey, privateKey } = generateKeyPair('web');
  const [, base64 = ''] = publicKey.split(' ');
  const longer = Buffer.concat([Buffer.from(base64, 'base64'), Buffer.from([0, 0, 0, 0])]).toString('base64');

  test.each([
    ['an empty line', '', 'not of the form'],
    ['one word', 'ssh-ed25519', 'not of the form'],
    ['a private key', privateKey, 'it is a private key'],
    ['a key in the format of RFC 4716', '---- BEGIN SSH2 PUBLIC KEY ----', 'not in OpenSSH’s format'],
    ['two keys', `${publicKey}\n${publicKey}`, 'more than one line'],
    ['no base64', 'ssh-ed25519 AAAA*', 'not base64'],
    ['a key that is cut off', `ssh-ed25519 ${base64.slice(0, 40)}`, 'of another type or cut off'],
    ['a key that says another type', `ssh-rsa ${base64}`, 'of another type or cut off'],
    ['a key with something behind it', `ssh-ed25519 ${longer}`, 'an Ed25519 key has 32 bytes'],
  ])('is refused when it is %s', (_, line, reason) => {
    const error = catchError(() => parsePublicKey(line));
    expect(error.message).toContain(reason);
    expect(error.code).toBe('FILE_NOT_FOUND');
    expect(error.hint).toContain('.pub');
  });
});

describe('a known_hosts line', () => {
  test('is found by ssh-keygen under its alias', async () => {
    const { publicKey } = generateKeyPair('host key');
    const path = join(directory, 'known_hosts');
    await writeFile(path, knownHostsLine('web-1.test', publicKey));
    const { stdout } = await runCommand('ssh-keygen', ['-F', 'web-1.test', '-f', path]);
    expect(stdout).toContain(publicKey.split(' ').slice(0, 2).join(' '));
  });

  test.each(['', 'a b', 'a,b', '*', '|1|x', '@revoked', 'a\nb', '#'])('refuses the alias %j', (alias) => {
    expect(() => knownHostsLine(alias, generateKeyPair('').publicKey)).toThrow('cannot stand in a known_hosts file');
  });
});

function catchError(work: () => unknown): VmctlError {
  try {
    work();
  } catch (error) {
    if (error instanceof VmctlError) return error;
    throw error;
  }
  throw new Error('nothing was thrown');
}
