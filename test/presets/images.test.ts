import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import {
  IMAGE_PRESETS,
  type PresetArchitecture,
  imagePreset,
  imagePresetNames,
  presetShell,
} from '../../presets/images.js';
import { fetchChecksum } from '../../src/image/checksum-source.js';
import { imageUrl, unixUser } from '../../src/vmfile/names.js';
import { startPresetMirror } from '../support/preset-mirror.js';

const EVERY = IMAGE_PRESETS.flatMap(({ name, images }) =>
  (['x64', 'arm64'] as const).flatMap((architecture) => {
    const image = images[architecture];
    return image === undefined ? [] : [{ name, architecture, image }];
  }),
);

describe('an image preset', () => {
  it('is one of those that people ask for', () => {
    const wanted = ['debian-12', 'debian-13', 'ubuntu-22.04', 'ubuntu-24.04', 'fedora-42', 'alpine-3.22'];
    expect(imagePresetNames).toEqual(expect.arrayContaining([...wanted, 'rocky-9', 'opensuse-15.6']));
    expect(new Set(imagePresetNames).size).toBe(imagePresetNames.length);
  });

  it('has an image for x64, and for arm64 where there is one', () => {
    const without = (architecture: PresetArchitecture) =>
      imagePresetNames.filter((name) => imagePreset(name, architecture) === undefined);
    expect(without('x64')).toEqual([]);
    expect(without('arm64')).toEqual(['arch']);
    expect(imagePreset('debian-12', 'riscv64')).toBeUndefined();
    expect(imagePreset('toString', 'x64')).toBeUndefined();
  });

  it.each(EVERY)('$name for $architecture is something that a VMFile may say', ({ architecture, image }) => {
    const { url, checksum, user, firmware } = image;
    for (const one of [url, checksum.url]) {
      expect(imageUrl(one)).toBeNull();
      expect(one).toMatch(/^https:\/\//);
      expect(new URL(one).href).toBe(one);
    }
    // A list from elsewhere may be that of another build.
    expect(new URL(checksum.url).host).toBe(new URL(url).host);
    expect(unixUser(user)).toBeNull();
    expect(firmware).toBe(architecture === 'arm64' ? 'uefi' : 'bios');
    expect(url).toMatch(architecture === 'arm64' ? /aarch64|arm64/ : /x86_64|amd64/);
  });

  it('is checked against the list that its distribution publishes', async () => {
    await using mirror = await startPresetMirror();
    const http = { dispatcher: mirror.dispatcher, signal: new AbortController().signal, stallMs: 5000 };
    expect(EVERY.map(({ image }) => image.url).toSorted()).toEqual([...mirror.images.keys()].toSorted());
    for (const { image } of EVERY) {
      const { url } = image;
      const { algorithm, digest } = await fetchChecksum(image.checksum, new URL(url), http);
      const actual = createHash(algorithm)
        .update(mirror.images.get(url) ?? '')
        .digest('hex');
      expect({ url, digest }).toEqual({ url, digest: actual });
    }
    expect(mirror.requests).toHaveLength(EVERY.length);
  });
});

it('tells the shell of an image that has no bash, and of no other', () => {
  const shells = EVERY.flatMap(({ name, image }) => (presetShell(image.url) === undefined ? [] : [name]));
  expect(new Set(shells)).toEqual(new Set(['alpine-3.22', 'alpine-3.23']));
  expect(presetShell(imagePreset('alpine-3.22', 'x64')?.url ?? '')).toBe('/bin/ash');
  expect(presetShell('https://example.org/disk.qcow2')).toBeUndefined();
});

describe('the page about images', () => {
  const page = readFileSync(join(import.meta.dirname, '../../docs/images.md'), 'utf8');

  it('has every preset in its table, as it is', () => {
    const rows = IMAGE_PRESETS.map(({ name, description, user, images }) => {
      const architectures = Object.entries(images).flatMap(([one, image]) => (image === undefined ? [] : [one]));
      const host = new URL(images.x64?.url ?? images.arm64?.url ?? '').host;
      return `| \`${name}\` | ${description} | ${architectures.join(', ')} | \`${user}\` | ${host} |`;
    });
    expect(page.split('\n').filter((line) => line.startsWith('| `') && line.includes('| x64'))).toEqual(rows);
  });
});
