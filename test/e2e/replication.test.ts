/** The example with three Debian guests, as a user runs it; the image and the packages come from this host. */
import { execFile } from 'node:child_process';
import { copyFile, readFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';
import { imagePreset } from '../../presets/images.js';
import { putImage } from '../support/cached-image.js';
import { guestImage } from '../support/guests.js';
import { Projects, type Session } from '../support/projects.js';

const PACKAGES = fileURLToPath(new URL('../guest/packages.sh', import.meta.url));

/** The debian guest stands in the cache in the place of the image that the preset names. */
async function putPreset(session: Session, name: string): Promise<void> {
  const preset = imagePreset(name, process.arch);
  if (preset === undefined) throw new Error(`there is no preset ${name}`);
  const content = await readFile(await guestImage('debian'));
  await putImage(session.paths.images, preset.url, { content, checksumUrl: preset.checksum.url });
}

async function packageFiles(name: string): Promise<readonly string[]> {
  const { stdout } = await promisify(execFile)(PACKAGES, [name], { encoding: 'utf8' });
  return stdout.trim().split('\n');
}

test('a replicated service loses nothing that was acknowledged, with a cable out and the power cut', async () => {
  await using projects = await Projects.install({ examples: ['replication'] });
  const folder = await projects.project('replication');
  for (const path of await packageFiles('redis-server')) {
    await copyFile(path, join(folder, 'packages', basename(path)));
  }
  const session = await projects.session();
  await putPreset(session, 'debian-12');
  await session.run(folder, ['npm', 'test'], { variables: { VMCTL_IMAGES_PULL: 'never' } });
  expect(await session.leftovers()).toEqual([]);
  // Three to four minutes on two idle cores without KVM; a busy machine takes several times as long.
}, 1_800_000);
