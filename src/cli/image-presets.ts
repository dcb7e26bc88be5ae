/** `image presets`: the table of `image-preset`, as it is on this host. */
import { IMAGE_PRESETS, type ImagePreset, imagePreset } from '../../presets/images.js';
import type { Cli } from './cli.js';
import { printJson, table } from './report.js';

/** Null, and `-`, where the distribution has no image for this host's architecture. */
export function listPresets(cli: Cli, json: boolean): void {
  const rows = IMAGE_PRESETS.map((preset) => {
    const here = imagePreset(preset.name, process.arch);
    return {
      name: preset.name,
      description: preset.description,
      architectures: architecturesOf(preset),
      user: preset.user,
      firmware: here?.firmware ?? null,
      url: here?.url ?? null,
      checksumUrl: here?.checksum.url ?? null,
    };
  });
  if (json) {
    printJson(cli, { architecture: process.arch, presets: rows });
    return;
  }
  const header = ['NAME', 'ARCHITECTURES', 'USER', 'FIRMWARE', 'URL'];
  const cells = rows.map(({ name, architectures, user, firmware, url }) => [
    name,
    architectures.join(', '),
    user,
    firmware ?? '-',
    url ?? '-',
  ]);
  cli.stdout.write(table(header, cells));
}

function architecturesOf({ images }: ImagePreset): readonly string[] {
  return Object.entries(images).flatMap(([architecture, image]) => (image === undefined ? [] : [architecture]));
}
