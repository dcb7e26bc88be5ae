import { expect, test } from 'vitest';
import { imagePreset } from '../../presets/images.js';
import { NoopBackend } from '../../src/hypervisor/noop.js';
import { RouterHypervisor } from '../../src/hypervisor/router.js';
import { createEnvironment } from '../../tasks/environment.js';
import { resolveVm } from '../../tasks/resolve.js';
import { putImage } from '../support/cached-image.js';
import { quiet, temporaryDirectory, vmSpec } from '../support/fixtures.js';

test.each([
  ['debian-12', undefined],
  ['alpine-3.22', '/bin/ash'],
])('the user of an image of %s gets a shell that is in it', async (preset, shell) => {
  await using directory = await temporaryDirectory();
  const env = createEnvironment({
    variables: { XDG_DATA_HOME: directory.path },
    home: directory.path,
    cwd: directory.path,
    command: 'test',
    signal: quiet.signal,
    hypervisor: new RouterHypervisor([new NoopBackend()], 'noop'),
  });
  const url = imagePreset(preset, 'x64')?.url ?? '';
  await putImage(env.paths.images, url);
  const spec = vmSpec({ image: { kind: 'url', url, checksum: null } });
  expect((await resolveVm(env, spec, quiet)).seed?.shell).toBe(shell);
});
