import { execFileSync } from 'node:child_process';
import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { generateKeyPair } from '../../src/ssh/keys.js';
import { checkFiles } from '../../src/vmfile/check-files.js';
import type { FileRole, NeededFile } from '../../src/vmfile/resolve.js';

const KEY = generateKeyPair('me@host').publicKey;

let folder = '';

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'vmctl-files-'));
});

afterEach(async () => {
  await rm(folder, { recursive: true });
});

function needed(path: string, role: FileRole = 'image', start = 0): NeededFile {
  return { path: join(folder, path), role, vm: 'web', span: { start, end: start + 1 } };
}

/** Messages and hints, the folder left out. */
async function check(...files: readonly NeededFile[]): Promise<readonly (readonly [string, string | null])[]> {
  const short = (text: string): string => text.replaceAll(`${folder}/`, '');
  return (await checkFiles(files)).map(({ message, hint }) => [short(message), hint === null ? null : short(hint)]);
}

describe('a file that a VM needs', () => {
  it('may be a file or a link to one', async () => {
    await writeFile(join(folder, 'disk'), '');
    await symlink('disk', join(folder, 'link'));
    expect(await check(needed('disk'), needed('link'))).toStrictEqual([]);
  });

  it('that does not exist is reported, with a name that is near', async () => {
    await writeFile(join(folder, 'debian.qcow2'), '');
    expect(await check(needed('debain.qcow2'), needed('setup', 'script'), needed('no/x', 'source'))).toStrictEqual([
      ['the image debain.qcow2 does not exist', 'did you mean "debian.qcow2"?'],
      ['the script setup does not exist', null],
      ['the source no/x does not exist', 'the folder no does not exist either'],
    ]);
  });

  it('may be a folder where it is the source of a copy', async () => {
    await mkdir(join(folder, 'site'));
    expect(await check(needed('site', 'source'))).toStrictEqual([]);
  });

  it('that is a folder, a link to itself or no regular file is reported', async () => {
    await mkdir(join(folder, 'images'));
    await symlink('loop', join(folder, 'loop'));
    const device = { ...needed('x'), path: '/dev/null' };
    expect(await check(needed('images'), needed('loop'), device)).toStrictEqual([
      ['the image images is a folder', 'name a file in it'],
      ['the image loop is a symbolic link that leads to itself', null],
      ['the image /dev/null is neither a file nor a folder', null],
    ]);
  });

  it('that is the wrong half of a key pair is reported', async () => {
    await writeFile(join(folder, 'id'), '-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n');
    await writeFile(join(folder, 'id.pub'), `${generateKeyPair('me@host').publicKey}\n`);
    expect(await check(needed('id', 'private-key'), needed('id.pub', 'ssh-key'))).toStrictEqual([]);
    expect(await check(needed('id', 'ssh-key'), needed('id.pub', 'private-key'))).toStrictEqual([
      ['id is a private key, and `ssh-key` wants the public one', 'did you mean "id.pub"?'],
      ['id.pub is a public key, and `private-key` wants the private one', 'did you mean "id"?'],
    ]);
  });

  it.each([
    ['', 'id.pub is empty'],
    [' \n\n', 'id.pub is empty'],
    ['notkey\n', 'id.pub is not an SSH public key'],
    ['notkey AAAAC3Nz\n', 'id.pub is not an SSH public key'],
    ['ssh-ed25519\n', 'id.pub is not an SSH public key'],
    ['ssh-ed25519 not_base64 me@host\n', 'id.pub is not an SSH public key: its second word is not base64'],
    ['ssh-ed25519 AAAAC3Nz me@host\n', 'id.pub is not a whole SSH public key: it was cut off or changed'],
    ['---- BEGIN SSH2 PUBLIC KEY ----\nAAAA\n', 'id.pub is not in OpenSSH’s format'],
    [`${KEY}\n${KEY}\n`, 'id.pub has 2 lines, and a public key has one'],
    [KEY.replace('ssh-ed25519', 'ssh-rsa'), 'id.pub is not a whole SSH public key: it was cut off or changed'],
  ])('that is to be a public key and is %j is reported', async (text, message) => {
    await writeFile(join(folder, 'id.pub'), text);
    expect(await check(needed('id.pub', 'ssh-key'))).toStrictEqual([
      [message, expect.stringContaining('a public key is one line such as "ssh-ed25519 AAAAC3… me@host"')],
    ]);
  });

  it.each(['ed25519', 'rsa -b 4096', 'ecdsa -b 521'])('may be a public key of ssh-keygen -t %s', async (type) => {
    execFileSync('ssh-keygen', ['-q', '-N', '', '-f', join(folder, 'id'), '-t', ...type.split(' ')]);
    expect(await check(needed('id.pub', 'ssh-key'))).toStrictEqual([]);
  });

  it('is looked at once, however often it is named, and reported at each place', async () => {
    const looked: string[] = [];
    const missing = Object.assign(new Error('missing'), { code: 'ENOENT' });
    const found = await checkFiles([needed('a', 'image', 5), needed('a', 'image', 1)], {
      kind: async (path) => {
        looked.push(path);
        throw missing;
      },
      list: async () => [],
      start: async () => '',
    });
    expect(looked).toHaveLength(1);
    expect(found.map(({ span }) => span.start)).toStrictEqual([1, 5]);
  });

  it('shows the words of the system for what nobody foresaw', async () => {
    const found = await checkFiles([needed('a')], {
      kind: async () => await Promise.reject(Object.assign(new Error('EIO: i/o error'), { code: 'EIO' })),
      list: async () => [],
      start: async () => '',
    });
    expect(found.map(({ message }) => message)).toStrictEqual([`the image ${folder}/a cannot be read: EIO: i/o error`]);
  });
});
