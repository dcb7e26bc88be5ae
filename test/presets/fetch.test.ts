/** Each preset through the whole way into the cache, from a server that is laid out as the distribution's. */
import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { expect, test } from 'vitest';
import { IMAGE_PRESETS, imagePreset } from '../../presets/images.js';
import { fetchImage } from '../../src/image/cache.js';
import { silentReporter } from '../../src/model/event.js';
import { temporaryDirectory } from '../support/fixtures.js';
import { startPresetMirror } from '../support/preset-mirror.js';

const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

test('every preset is fetched and held against its distribution’s list of checksums', async () => {
  await using directory = await temporaryDirectory();
  await using mirror = await startPresetMirror();
  for (const { name } of IMAGE_PRESETS) {
    for (const architecture of ['x64', 'arm64']) {
      const preset = imagePreset(name, architecture);
      if (preset === undefined) continue;
      const path = await fetchImage(
        { url: preset.url, checksum: preset.checksum },
        {
          directory: directory.path,
          command: 'test',
          signal: new AbortController().signal,
          reporter: silentReporter,
          dispatcher: mirror.dispatcher,
          retryDelaysMs: [],
        },
      );
      const served = mirror.images.get(preset.url);
      expect([preset.url, sha256(await readFile(path))]).toEqual([preset.url, sha256(served ?? Buffer.alloc(0))]);
    }
  }
});
