import { chmod, mkdir, readFile, readdir, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import {
  errorCode,
  exists,
  isFull,
  isMissing,
  makeDirectory,
  readTextIfPresent,
  stateDirectoryError,
  writeFileAtomically,
} from '../../src/util/fs.js';
import { VmctlError } from '../../src/errors.js';
import { type TemporaryDirectory, temporaryDirectory, withoutPrivileges } from '../support/fixtures.js';
import { type Script, bundleScript } from './actor.js';

let script: Script;
let directory: TemporaryDirectory;
let path: string;

beforeAll(async () => {
  script = await bundleScript('worker');
});

afterAll(() => script[Symbol.asyncDispose]());

beforeEach(async () => {
  directory = await temporaryDirectory();
  path = join(directory.path, 'file.json');
});

afterEach(async () => {
  await script.killAll();
  await directory[Symbol.asyncDispose]();
});

describe('an atomic write', () => {
  test('makes a file for its owner alone, and leaves no other', async () => {
    await writeFileAtomically(path, 'one');
    await writeFileAtomically(path, new TextEncoder().encode('two'));
    expect(await readFile(path, 'utf8')).toBe('two');
    expect((await stat(path)).mode & 0o777).toBe(0o600);
    expect(await readdir(directory.path)).toEqual(['file.json']);
  });

  test('that fails at the end leaves what was there and nothing else', async () => {
    await mkdir(path);
    await writeFile(join(path, 'content'), 'old');
    await expect(writeFileAtomically(path, 'new')).rejects.toMatchObject({ code: 'STATE_DIRECTORY' });
    expect(await readFile(join(path, 'content'), 'utf8')).toBe('old');
    expect(await readdir(directory.path)).toEqual(['file.json']);
  });

  test('in a folder that may not be written leaves the old text and says what to check', async () => {
    await writeFile(path, 'old', { mode: 0o644 });
    await chmod(directory.path, 0o555);
    await expect(withoutPrivileges(() => writeFileAtomically(path, 'new'))).rejects.toMatchObject({
      code: 'STATE_DIRECTORY',
      message: expect.stringMatching(new RegExp(`^cannot write ${path}: EACCES: permission denied`)),
      hint: 'Check who owns it and its permissions.',
      fields: { path },
    });
    await chmod(directory.path, 0o755);
    expect(await readFile(path, 'utf8')).toBe('old');
  });

  test('in a folder that is none is an error of the state directory', async () => {
    await writeFile(path, '');
    const attempt = writeFileAtomically(join(path, 'x', 'y'), 'new');
    await expect(attempt).rejects.toMatchObject({ code: 'STATE_DIRECTORY', message: expect.stringMatching('ENOTDIR') });
  });

  const texts = ['a'.repeat(400_000), 'b'.repeat(300_000)];

  test('lets a reader see the old text or the new one at any time', async () => {
    await writeFileAtomically(path, texts[0] ?? '');
    const actor = await script.start();
    const killed = actor.ask('rewrite', path, ...texts).catch((error: Error) => error.message);
    const seen = new Set<string>();
    for (let reads = 0; reads < 100 || seen.size < 2; reads += 1) {
      const text = await readFile(path, 'utf8');
      expect(texts.includes(text)).toBe(true);
      seen.add(text);
    }
    await actor.kill();
    expect(await killed).toBe('the actor was killed');
  });

  test('that is killed leaves the old text or the new one', async () => {
    await writeFileAtomically(path, texts[0] ?? '');
    for (let round = 0; round < 3; round += 1) {
      const actor = await script.start();
      const killed = actor.ask('rewrite', path, ...texts).catch((error: Error) => error.message);
      const temporary = async () => (await readdir(directory.path)).some((name) => name.includes(`.${actor.pid}-`));
      await expect.poll(temporary, { interval: 1 }).toBe(true);
      await actor.kill();
      expect(await killed).toBe('the actor was killed');
      expect(texts).toContain(await readFile(path, 'utf8'));
    }
  });
});

describe('reading a text', () => {
  test('gives null for a file that is not there, or whose folder is none', async () => {
    await writeFile(path, 'text');
    expect(await readTextIfPresent(path)).toBe('text');
    expect(await readTextIfPresent(join(directory.path, 'none'))).toBeNull();
    expect(await readTextIfPresent(join(path, 'none'))).toBeNull();
  });

  test('that cannot be read is an error of the state directory', async () => {
    await expect(readTextIfPresent(directory.path)).rejects.toMatchObject({
      code: 'STATE_DIRECTORY',
      message: expect.stringContaining(`cannot read ${directory.path}: EISDIR: `),
    });
  });
});

test('a file exists or does not, also where its folder is none', async () => {
  await writeFile(path, '');
  expect(await exists(path)).toBe(true);
  expect(await exists(directory.path)).toBe(true);
  expect(await exists(join(directory.path, 'none'))).toBe(false);
  expect(await exists(join(path, 'none'))).toBe(false);
});

describe('a directory', () => {
  test('is made with its parents for its owner alone, and may be there already', async () => {
    const deep = join(directory.path, 'a', 'b');
    await makeDirectory(deep);
    await makeDirectory(deep);
    expect((await stat(deep)).mode & 0o777).toBe(0o700);
    expect((await stat(join(directory.path, 'a'))).mode & 0o777).toBe(0o700);
  });

  test('that cannot be made is an error with a hint', async () => {
    await chmod(directory.path, 0o555);
    await expect(withoutPrivileges(() => makeDirectory(join(directory.path, 'a')))).rejects.toMatchObject({
      code: 'STATE_DIRECTORY',
      message: expect.stringContaining(`cannot create ${directory.path}/a: EACCES`),
      hint: 'Check who owns it and its permissions.',
    });
  });
});

test.each([
  ['ENOSPC', 'Free some space on that file system.'],
  ['EDQUOT', 'Your quota on that file system is used up.'],
  ['EROFS', 'That file system is read-only; set XDG_DATA_HOME to a folder that can be written.'],
  ['EIO', null],
])('an error %s of the state directory has the hint that helps', (code, hint) => {
  const cause = Object.assign(new Error('no'), { code });
  const error = stateDirectoryError('write', '/state/vms.json', cause);
  expect(error).toMatchObject({ message: 'cannot write /state/vms.json: no', hint, cause });
});

test('only system errors have a code', () => {
  expect(errorCode(Object.assign(new Error('no'), { code: 'EIO' }))).toBe('EIO');
  expect(errorCode(Object.assign(new Error('no'), { code: 5 }))).toBeNull();
  expect(errorCode('EIO')).toBeNull();
  expect(isMissing(Object.assign(new Error('no'), { code: 'ENOTDIR' }))).toBe(true);
  expect(isMissing(Object.assign(new Error('no'), { code: 'EACCES' }))).toBe(false);
});

test('a full disk is one of this host, whoever told of it', () => {
  const cause = Object.assign(new Error('no'), { code: 'ENOSPC' });
  const words = 'No space left on device';
  expect(isFull(cause)).toBe(true);
  expect(isFull(stateDirectoryError('write', '/state/vms.json', cause))).toBe(true);
  expect(isFull(new VmctlError('COMMAND_FAILED', `qemu-img: ${words}`))).toBe(true);
  expect(isFull(new VmctlError('PROVISION_FAILED', `the guest says: ${words}`))).toBe(false);
  expect(isFull(new VmctlError('COMMAND_FAILED', 'qemu-img: no such file'))).toBe(false);
  expect(isFull(new Error(words))).toBe(false);
});
