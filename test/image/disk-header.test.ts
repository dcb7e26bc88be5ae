import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { readDiskHeader } from '../../src/image/disk-header.js';
import { createOverlay } from '../../src/image/qemu-img.js';
import { runCommand } from '../../src/util/exec.js';
import { temporaryDirectory } from '../support/fixtures.js';

const MIB = 1024 ** 2;

test('reads the size and the backing file that qemu-img has written', async () => {
  await using directory = await temporaryDirectory();
  const path = (name: string) => join(directory.path, name);
  await writeFile(path('a, "b"=ü.raw'), Buffer.alloc(MIB));
  const base = { path: path('a, "b"=ü.raw'), format: 'raw', virtualBytes: MIB } as const;
  await createOverlay({ base, path: path('overlay'), sizeBytes: 3 * MIB });
  expect(await readDiskHeader(path('overlay'))).toEqual({
    format: 'qcow2',
    virtualBytes: 3 * MIB,
    backingFile: base.path,
  });
  for (const version of ['0.10', '1.1']) {
    await runCommand('qemu-img', ['create', '-q', '-f', 'qcow2', '-o', `compat=${version}`, path('alone'), '5M']);
    expect(await readDiskHeader(path('alone'))).toEqual({ format: 'qcow2', virtualBytes: 5 * MIB, backingFile: null });
  }
  expect(await readDiskHeader(base.path)).toEqual({ format: 'raw', virtualBytes: MIB });
});

test.each([
  ['a header that is cut off', Buffer.from('QFI\xfb\0\0\0\x03', 'latin1')],
  ['a name that is cut off', Buffer.concat([header({ offset: 104n, length: 20 }), Buffer.from('/half')])],
  ['a name that is too long', Buffer.concat([header({ offset: 104n, length: 4096 }), Buffer.alloc(8192, 'x')])],
  ['a name behind all bounds', header({ offset: 2n ** 63n, length: 5 })],
  ['a page of a web site', Buffer.from('<!DOCTYPE html><html>')],
])('does not trust %s', async (_what, bytes) => {
  await using directory = await temporaryDirectory();
  await writeFile(join(directory.path, 'disk'), bytes);
  expect(await readDiskHeader(join(directory.path, 'disk'))).toEqual({ format: 'unknown' });
});

function header({ offset, length }: { readonly offset: bigint; readonly length: number }): Buffer {
  const bytes = Buffer.alloc(104);
  bytes.write('QFI\xfb', 'latin1');
  bytes.writeUInt32BE(3, 4);
  bytes.writeBigUInt64BE(offset, 8);
  bytes.writeUInt32BE(length, 16);
  return bytes;
}
