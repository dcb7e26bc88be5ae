import { randomBytes } from 'node:crypto';
import { mkdir, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { gzipSync } from 'node:zlib';
import { expect, test } from 'vitest';
import { serveFile } from '../support/file-server.js';
import { Rig } from '../support/rig.js';
import { mayMount, mountSmallDisk } from '../support/small-disk.js';

test.skipIf(!mayMount())('on a full disk VMs are stopped and removed, and gc and image prune work', async () => {
  await using rig = await Rig.create();
  await using disk = await mountSmallDisk(dirname(rig.paths.root), 2);
  if (disk === null) throw new Error('a file system cannot be mounted here');
  await rig.declare({ web: '', db: '', cache: '', lost: '' });
  expect(await rig.vmctl(['up'])).toMatchObject({ exitCode: 0 });
  // Its removal frees nothing with which the list of VMs could be written.
  await rm(rig.paths.vm('lost'), { recursive: true });
  await mkdir(rig.paths.vm('lost'));
  await disk.fill();

  expect(await rig.vmctl(['destroy', 'lost', '--yes'])).toMatchObject({ exitCode: 0 });
  expect(await rig.vmctl(['stop', 'web'])).toMatchObject({ exitCode: 0 });
  expect(await rig.states()).toEqual({ web: 'stopped', db: 'running', cache: 'running' });
  expect(await rig.vmctl(['destroy', 'web', '--yes'])).toMatchObject({ exitCode: 0 });
  await disk.fill();
  expect(await rig.vmctl(['image', 'prune'])).toMatchObject({ exitCode: 0 });
  expect(await rig.vmctl(['gc'])).toMatchObject({ exitCode: 0 });
  const failed = await rig.vmctl(['up', 'web']);
  expect(failed).toMatchObject({ exitCode: 1, stderr: expect.stringContaining('Free some space') });
  await disk.fill();
  expect(await rig.vmctl(['down', '--destroy'])).toMatchObject({ exitCode: 0 });
  expect(await rig.directories()).toEqual([]);
  expect(await rig.states()).toEqual({});

  await disk.free();
  expect(await rig.vmctl(['up', 'web'])).toMatchObject({ exitCode: 0 });
  expect(Object.keys((await rig.registry()).vms)).toEqual(['web']);
});

const KIB = 1024;
/** So many bytes of free space that whatever is written during `up` is the first that has none. */
const SPACES = [0, 1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 100, 900, 1024, 1028, 1032, 1036, 1040, 1044].map(
  (kib) => kib * KIB,
);

test.skipIf(!mayMount()).for([
  ['as it is', (image: Buffer) => image],
  ['compressed', (image: Buffer) => gzipSync(image)],
] as const)(
  'whatever space there is for an image that comes %s, and for a VM on it, up says what it lacks and leaves nothing half-made',
  { timeout: 120_000 },
  async ([, pack]) => {
    await using rig = await Rig.create();
    // Of random bytes, so that it takes as much space compressed.
    await using server = await serveFile(await rig.write('served', pack(randomBytes(KIB * KIB))));
    await using disk = await mountSmallDisk(dirname(rig.paths.root), 6);
    if (disk === null) throw new Error('a file system cannot be mounted here');
    await rig.write('VMFile.kdl', `vm "web" { image-url "${server.url}"; cloud-init; ssh }\n`);
    const upWith = async (space: number) => {
      await disk.fill(space);
      const { exitCode, stderr } = await rig.vmctl(['up']);
      const directories = await rig.directories();
      await disk.free();
      expect(await rig.vmctl(['list'])).toMatchObject({ exitCode: 0 });
      expect(await rig.vmctl(['down', '--destroy'])).toMatchObject({ exitCode: 0 });
      const failed = exitCode !== 0;
      const isTold = stderr.includes('Free some space');
      // A VM is there whole, which may not have been started, or not at all.
      const rests = directories.filter((name) => name !== 'web');
      expect({ space, stderr, isTold, rests }).toEqual({ space, stderr, isTold: failed, rests: [] });
      return { failed, lacksImage: stderr.includes(rig.paths.images) };
    };
    for (const space of SPACES.filter((bytes) => bytes < KIB * KIB)) {
      expect(await upWith(space)).toEqual({ failed: true, lacksImage: true });
    }
    for (const space of SPACES.filter((bytes) => bytes >= KIB * KIB)) await upWith(space);
    expect(await upWith(4 * KIB * KIB)).toMatchObject({ failed: false });
    const outcomes = [];
    for (const space of SPACES) outcomes.push(await upWith(space));
    expect(outcomes.some(({ failed }) => failed)).toBe(true);
    expect(outcomes.some(({ lacksImage }) => lacksImage)).toBe(false);
    expect(outcomes.at(-1)).toMatchObject({ failed: false });
  },
);
