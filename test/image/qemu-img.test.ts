import { Buffer } from 'node:buffer';
import { createHash } from 'node:crypto';
import { mkdir, mkdtemp, open, readFile, realpath, rm, stat, symlink, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { VmctlError } from '../../src/errors.js';
import { createOverlay, inspectImage } from '../../src/image/qemu-img.js';
import type { BaseImage } from '../../src/model/vm.js';
import { runCommand } from '../../src/util/exec.js';
import { failure } from '../support/failure.js';

const MIB = 1024 ** 2;

let directory: string;

beforeAll(async () => {
  await runCommand('qemu-img', ['--version']).catch((cause: unknown) => {
    throw new Error('this test makes images with qemu-img: install the package qemu-utils', { cause });
  });
});

beforeEach(async () => {
  directory = await realpath(await mkdtemp(join(tmpdir(), 'vmctl-image-')));
});

afterEach(async () => {
  await rm(directory, { recursive: true, force: true });
});

async function make(name: string, options: readonly string[], size = '8M'): Promise<string> {
  const path = join(directory, name);
  await runCommand('qemu-img', ['create', '-q', ...options, path, size]);
  return path;
}

/** A qcow2 image whose clusters are all there. */
async function full(name: string, mib = 4): Promise<string> {
  const raw = await put(`${name}.raw`, Buffer.alloc(mib * MIB, 'data'));
  const path = join(directory, name);
  await runCommand('qemu-img', ['convert', '-f', 'raw', '-O', 'qcow2', raw, path]);
  return path;
}

async function put(name: string, content: string | Uint8Array): Promise<string> {
  const path = join(directory, name);
  await writeFile(path, content);
  return path;
}

async function patch(path: string, offset: number, bytes: readonly number[]): Promise<void> {
  const file = await open(path, 'r+');
  await file.write(Buffer.from(bytes), 0, bytes.length, offset);
  await file.close();
}

async function digest(path: string): Promise<string> {
  return createHash('sha256')
    .update(await readFile(path))
    .digest('hex');
}

describe('an image', () => {
  test('in qcow2 is told with its virtual size', async () => {
    const path = await make('disk.img', ['-f', 'qcow2']);
    expect(await inspectImage(path)).toEqual({ path, format: 'qcow2', virtualBytes: 8 * MIB });
  });

  test('in qcow2 of version 2 is taken too', async () => {
    const path = await make('old.qcow2', ['-f', 'qcow2', '-o', 'compat=0.10']);
    expect(await inspectImage(path)).toEqual({ path, format: 'qcow2', virtualBytes: 8 * MIB });
  });

  test('that is compressed inside of qcow2 is taken', async () => {
    const path = join(directory, 'compressed.qcow2');
    await runCommand('qemu-img', ['convert', '-c', '-f', 'qcow2', '-O', 'qcow2', await full('plain.qcow2'), path]);
    expect(await inspectImage(path)).toEqual({ path, format: 'qcow2', virtualBytes: 4 * MIB });
  });

  test('with wasted space only is taken', async () => {
    const path = await full('leaky.qcow2');
    await truncate(path, (await stat(path)).size + 65536);
    // The reference count of the added cluster says that somebody uses it.
    const { size } = await stat(path);
    await patch(path, 2 * 65536 + (size / 65536 - 1) * 2, [0, 1]);
    await expect(runCommand('qemu-img', ['check', '-f', 'qcow2', path])).rejects.toThrow('exit code 3');
    expect((await inspectImage(path)).format).toBe('qcow2');
  });

  test('is raw when nothing else is known, with no program asked', async () => {
    const path = await put('disk.qcow2', Buffer.alloc(MIB));
    const run = (): never => {
      throw new Error('qemu-img is not needed for this');
    };
    expect(await inspectImage(path, { run })).toEqual({ path, format: 'raw', virtualBytes: MIB });
  });

  test('is named by its real path', async () => {
    const path = await put('disk.raw', Buffer.alloc(512));
    await symlink(path, join(directory, 'link'));
    expect((await inspectImage(join(directory, 'link'))).path).toBe(path);
  });

  test('may be an ISO', async () => {
    const content = Buffer.alloc(40 * 2048);
    content.write('\x01CD001', 32768, 'latin1');
    expect((await inspectImage(await put('live.iso', content))).format).toBe('raw');
  });
});

describe('an image that would read other files of this host is refused without QEMU opening it', () => {
  const never = (): never => {
    throw new Error('it was opened');
  };

  test('for its backing file', async () => {
    await make('secret', ['-f', 'raw']);
    const path = await make('evil.qcow2', ['-f', 'qcow2', '-b', join(directory, 'secret'), '-F', 'raw']);
    const error = await failure(inspectImage(path, { run: never }));
    expect(error.code).toBe('IMAGE_INVALID');
    expect(error.message).toBe(
      `${path} is not an image that vmctl can use: ` +
        `it has a backing file ("${directory}/secret"), which would be read from this host`,
    );
    expect(error.hint).toContain('qemu-img convert -O qcow2');
  });

  test('for its external data file', async () => {
    const path = await make('evil.qcow2', ['-f', 'qcow2', '-o', `data_file=${directory}/data,data_file_raw=on`]);
    const error = await failure(inspectImage(path, { run: never }));
    expect(error.message).toContain('it keeps its data in another file, which would be read from this host');
  });
});

describe('a file is refused with the reason and the next step when it', () => {
  test('is not there', async () => {
    const error = await failure(inspectImage(join(directory, 'none.qcow2')));
    expect(error.code).toBe('IMAGE_NOT_FOUND');
    expect(error.message).toBe(`there is no image ${directory}/none.qcow2`);
  });

  test('is a folder', async () => {
    expect((await failure(inspectImage(directory))).message).toContain('it is a folder');
  });

  test.each([
    ['vmdk', 'a VMDK image', 'qemu-img convert -f vmdk -O qcow2'],
    ['vdi', 'a VDI image', 'qemu-img convert -f vdi -O qcow2'],
    ['vhdx', 'a VHDX image', 'qemu-img convert -f vhdx -O qcow2'],
    ['vpc', 'a VHD image', 'qemu-img convert -f vpc -O qcow2'],
    ['qed', 'a QED image', 'qemu-img convert -f qed -O qcow2'],
    ['parallels', 'a Parallels image', 'qemu-img convert -f parallels -O qcow2'],
    ['qcow', 'a QCOW version 1 image', 'qemu-img convert -f qcow -O qcow2'],
  ])('is in %s format', async (format, what, hint) => {
    const error = await failure(inspectImage(await make('disk', ['-f', format])));
    expect(error.code).toBe('IMAGE_INVALID');
    expect(error.message).toMatch(new RegExp(`: it is ${what}$`));
    expect(error.hint).toContain(hint);
  });

  test('is a VHD of fixed size, which only its end tells', async () => {
    const path = await make('disk', ['-f', 'vpc', '-o', 'subformat=fixed']);
    expect((await failure(inspectImage(path))).message).toContain('it is a VHD image');
  });

  test('is encrypted', async () => {
    const luks = await put('luks', Buffer.concat([Buffer.from('LUKS\xba\xbe\0\x01', 'latin1'), Buffer.alloc(1016)]));
    expect((await failure(inspectImage(luks))).message).toContain('it is an encrypted (LUKS) image');
    const qcow2 = await full('secret.qcow2');
    await patch(qcow2, 32, [0, 0, 0, 2]);
    expect((await failure(inspectImage(qcow2))).message).toContain('it is encrypted');
  });

  test.each([
    ['gzip', '1f8b0800', 'gunzip'],
    ['zstd', '28b52ffd', 'zstd -d'],
    ['xz', 'fd377a585a00', 'unxz'],
    ['bzip2', '425a6839', 'bunzip2'],
  ])('is compressed with %s', async (by, magic, tool) => {
    const path = await put('disk', Buffer.concat([Buffer.from(magic, 'hex'), Buffer.alloc(1020)]));
    const error = await failure(inspectImage(path));
    expect(error.message).toContain(`it is compressed with ${by}`);
    expect(error.hint).toContain(`"${tool}"`);
  });

  test.each([
    ['an HTML page', '\n<!DOCTYPE html><title>Sign in</title>'],
    ['an HTML page', '\ufeff<HTML>'],
    ['an XML document', '<?xml version="1.0"?><Error/>'],
    ['a text file', 'Not found\n'],
    ['a ZIP archive', 'PK\x03\x04'],
  ])('is %s', async (what, content) => {
    expect((await failure(inspectImage(await put('disk', content)))).message).toContain(`it is ${what}, not a disk`);
  });

  test('is empty', async () => {
    expect((await failure(inspectImage(await put('disk', '')))).message).toContain('it is empty');
  });

  test('has no whole sectors', async () => {
    const error = await failure(inspectImage(await put('disk', Buffer.alloc(1000))));
    expect(error.message).toContain('it has 1000 bytes, which is no multiple of 512');
  });

  test('is a qcow2 image that is cut off', async () => {
    const path = await full('cut.qcow2');
    await truncate(path, 2 * MIB);
    expect((await failure(inspectImage(path))).message).toContain('it is cut off');
    await truncate(path, 50);
    expect((await failure(inspectImage(path))).message).toContain('its header is cut off');
  });

  test('is a qcow2 image that is marked as corrupt', async () => {
    const path = await full('corrupt.qcow2');
    await patch(path, 72, [0, 0, 0, 0, 0, 0, 0, 2]);
    expect((await failure(inspectImage(path))).message).toContain('it is marked as corrupt');
  });

  test('is a qcow2 image with damaged tables', async () => {
    const path = await full('damaged.qcow2');
    await patch(
      path,
      65536,
      Array.from({ length: 64 }, () => 0xff),
    );
    const error = await failure(inspectImage(path));
    expect(error.code).toBe('IMAGE_INVALID');
    expect(error.cause).toBeInstanceOf(VmctlError);
  });

  test('is a qcow2 image of an unknown version', async () => {
    const path = await full('new.qcow2');
    await patch(path, 4, [0, 0, 0, 9]);
    expect((await failure(inspectImage(path))).message).toContain('unknown version 9');
  });
});

test('without qemu-img the error names the package', async () => {
  const path = await make('disk.qcow2', ['-f', 'qcow2']);
  const error = await failure(inspectImage(path, { binary: 'qemu-img-that-nobody-has' }));
  expect(error.code).toBe('HOST_UNSUPPORTED');
  expect(error.message).toContain('qemu-img-that-nobody-has is not installed');
  expect(error.hint).toContain('qemu-utils on Debian and Ubuntu');
});

test('a cancelled inspection ends as such', async () => {
  const path = await make('disk.qcow2', ['-f', 'qcow2']);
  expect((await failure(inspectImage(path, { signal: AbortSignal.abort() }))).code).toBe('ABORTED');
});

describe('an overlay', () => {
  async function facts(path: string): Promise<Record<string, unknown>> {
    const { stdout } = await runCommand('qemu-img', ['info', '--output=json', '-f', 'qcow2', path]);
    const parsed: Record<string, unknown> = JSON.parse(stdout);
    return parsed;
  }

  test('stands on its image by absolute path and explicit format, and has the size asked for', async () => {
    const base = await inspectImage(await full('base.qcow2'));
    const path = join(directory, 'overlay.qcow2');
    await createOverlay({ base, path, sizeBytes: 64 * MIB });
    expect(await facts(path)).toMatchObject({
      format: 'qcow2',
      'virtual-size': 64 * MIB,
      'backing-filename': base.path,
      'backing-filename-format': 'qcow2',
    });
  });

  test('of a raw image reads it as raw, whatever a guest has written to its start', async () => {
    const base: BaseImage = { path: await full('looks-like.qcow2'), format: 'raw', virtualBytes: 4 * MIB };
    const path = join(directory, 'overlay.qcow2');
    await createOverlay({ base, path, sizeBytes: 8 * MIB });
    expect(await facts(path)).toMatchObject({ 'backing-filename-format': 'raw' });
  });

  test('takes the size of its image where none is asked for, and rounds up to sectors', async () => {
    const base = await inspectImage(await full('base.qcow2'));
    const path = join(directory, 'overlay.qcow2');
    await createOverlay({ base, path, sizeBytes: null });
    expect(await facts(path)).toMatchObject({ 'virtual-size': 4 * MIB });
    await createOverlay({ base, path, sizeBytes: 4 * MIB + 1 });
    expect(await facts(path)).toMatchObject({ 'virtual-size': 4 * MIB + 512 });
  });

  test('is written without a change to its image', async () => {
    const base = await inspectImage(await full('base.qcow2'));
    const [before, path] = [await digest(base.path), join(directory, 'overlay.qcow2')];
    await createOverlay({ base, path, sizeBytes: 16 * MIB });
    await runCommand('qemu-io', ['-f', 'qcow2', '-c', 'write -P 7 0 1M', path]);
    expect(await digest(base.path)).toBe(before);
  });

  test('smaller than its image is refused with both sizes', async () => {
    const base = await inspectImage(await full('base.qcow2'));
    const path = join(directory, 'overlay.qcow2');
    const error = await failure(createOverlay({ base, path, sizeBytes: 2 * MIB + 100 }));
    expect(error.code).toBe('IMAGE_INVALID');
    expect(error.message).toBe(`a disk of 2097664 bytes is smaller than the image ${base.path} (4 MiB)`);
    expect(error.hint).toBe('Give "disk" at least 4 MiB, or leave it out to take the image\'s size.');
    await expect(stat(path)).rejects.toThrow('ENOENT');
  });

  test.each([
    'sp ace',
    'com,ma',
    'co:lon',
    'nbd:x',
    'json:{}',
    '"quoted\'',
    '-f',
    'new\nline',
    'back\\slash',
    '%2e',
    'ü',
  ])('and its image may stand in a folder called %j', async (name) => {
    const folder = join(directory, name);
    await mkdir(folder);
    const image = join(folder, `${name}.qcow2`);
    await runCommand('cp', ['--', await full('base.qcow2', 1), image]);
    const base = await inspectImage(image);
    const path = join(folder, `${name}-overlay`);
    await createOverlay({ base, path, sizeBytes: 2 * MIB });
    const { stdout } = await runCommand('qemu-io', ['-f', 'qcow2', '-c', 'read -P 100 0 1', path]);
    expect(stdout).toContain('read 1/1 bytes');
    expect(await facts(path)).toMatchObject({ 'backing-filename': image });
  });

  test('is refused when no overlay can name the image', async () => {
    const base: BaseImage = { path: `/${'x'.repeat(1023)}`, format: 'raw', virtualBytes: 512 };
    const error = await failure(createOverlay({ base, path: join(directory, 'o'), sizeBytes: null }));
    expect(error.message).toContain('its path has more than 1023 bytes');
  });

  test('that could not be made leaves nothing, and says what qemu-img said', async () => {
    const base: BaseImage = { path: join(directory, 'gone.qcow2'), format: 'qcow2', virtualBytes: 512 };
    const path = join(directory, 'overlay.qcow2');
    const error = await failure(createOverlay({ base, path, sizeBytes: null }));
    expect(error.code).toBe('COMMAND_FAILED');
    expect(`${error.message}${error.details}`).toContain('gone.qcow2');
    await expect(stat(path)).rejects.toThrow('ENOENT');
  });
});
