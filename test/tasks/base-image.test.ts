import { readFile, rename, rm, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { putImage } from '../support/cached-image.js';
import { Rig } from '../support/rig.js';

/** A stopped VM on a base image of its own. */
async function stoppedVm() {
  const rig = await Rig.create();
  await rig.declare({ web: '' });
  await rig.vmctl(['up']);
  await rig.vmctl(['stop', 'web']);
  return { rig, image: join(rig.project, 'disk.raw') };
}

const CHANGED = (image: string) => `the image ${image} has changed since VM "web" was made`;

test('a VM is not started on another image than it was made from, however that came there', async () => {
  const { rig, image } = await stoppedVm();
  await using _ = rig;
  const text = await readFile(image);
  const grown = Buffer.concat([text, Buffer.alloc(512)]);
  await writeFile(join(rig.project, 'other.raw'), grown);
  await rename(join(rig.project, 'other.raw'), image);
  for (const words of [['up'], ['start', 'web']]) {
    const { exitCode, stderr } = await rig.vmctl(words);
    expect(exitCode).toBe(1);
    expect(stderr).toContain(`error: ${CHANGED(image)}`);
    expect(stderr).toContain(
      'hint: Put the old file back, or make the VM anew, without what is on its disk: vmctl reload web',
    );
    expect(stderr).toMatch(/then: 1048576 bytes, modified \S+Z\n.*now: +1049088 bytes/);
  }
  expect(await rig.states()).toEqual({ web: 'stopped' });
  const plan = await rig.vmctl(['up', '--dry-run']);
  expect(plan.exitCode).toBe(1);
  expect(plan.stdout).toBe(
    `web: cannot come up: ${CHANGED(image)}
    hint: Put the old file back, or make the VM anew, without what is on its disk: vmctl reload web
`,
  );
  expect((await rig.vmctl(['list'])).stderr).toContain(CHANGED(image));
  expect((await rig.vmctl(['status', 'web'])).stdout).toMatch(
    new RegExp(`^problem +${CHANGED(image)}\n +then: .*\n +now: .*\nnext step +.*vmctl reload web$`, 'm'),
  );
  expect(JSON.parse((await rig.vmctl(['status', 'web', '--json'])).stdout).remarks).toHaveLength(1);

  expect((await rig.vmctl(['reload', 'web'])).exitCode).toBe(0);
  expect((await rig.vmctl(['list'])).stderr).toBe('');
});

test('an image that was written again with the same length has changed; the old file may come back', async () => {
  const { rig, image } = await stoppedVm();
  await using _ = rig;
  await rename(image, `${image}.old`);
  await writeFile(image, await readFile(`${image}.old`));
  await utimes(image, 1_000_000_000, 1_000_000_000);
  expect((await rig.vmctl(['up'])).stderr).toContain(CHANGED(image));
  await rename(`${image}.old`, image);
  expect((await rig.vmctl(['up'])).exitCode).toBe(0);
});

test('an image that is gone is told with the next step', async () => {
  const { rig, image } = await stoppedVm();
  await using _ = rig;
  await rm(image);
  const gone = `the image ${image}, on which VM "web" stands, is gone`;
  const { exitCode, stderr } = await rig.vmctl(['start', 'web']);
  expect(exitCode).toBe(1);
  expect(stderr).toContain(`error: ${gone}`);
  expect(stderr).toContain('hint: Put it back, or make the VM anew');
  expect((await rig.vmctl(['list'])).stderr).toContain(gone);
});

test('a VM of an earlier vmctl, which did not write down what its image was like, is started', async () => {
  const { rig, image } = await stoppedVm();
  await using _ = rig;
  const path = join(rig.paths.vm('web'), 'vm.json');
  const handle = JSON.parse(await readFile(path, 'utf8'));
  delete handle.image.file;
  await writeFile(path, JSON.stringify(handle));
  await utimes(image, 1, 1);
  expect((await rig.vmctl(['start', 'web'])).exitCode).toBe(0);
});

test('an image of the cache may be fetched again: a file there has one content for ever', async () => {
  await using rig = await Rig.create();
  const path = await putImage(rig.paths.images, 'https://example.org/base.raw');
  await rig.write('VMFile.kdl', 'vm "web" { image-url "https://example.org/base.raw" }');
  expect((await rig.vmctl(['up'])).exitCode).toBe(0);
  await rig.vmctl(['stop', 'web']);
  await utimes(path, 1, 1);
  expect((await rig.vmctl(['up'])).exitCode).toBe(0);
});
