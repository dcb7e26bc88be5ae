import { mkdir, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { expect, test } from 'vitest';
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
