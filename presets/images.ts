/** Named public cloud images: where each distribution publishes its newest build, and which user it has. */

export interface ImagePreset {
  readonly url: string;
  /** The distribution's own list of checksums for that file. */
  readonly checksumUrl: string;
  /** The login that the image's cloud-init makes. */
  readonly user: string;
}

/** Node's name of a processor architecture (`process.arch`). */
export type PresetArchitecture = 'x64' | 'arm64';

type Builder = (architecture: PresetArchitecture) => ImagePreset;

const debian =
  (codename: string, version: number): Builder =>
  (architecture) => {
    const folder = `https://cloud.debian.org/images/cloud/${codename}/latest`;
    const machine = architecture === 'x64' ? 'amd64' : 'arm64';
    return {
      url: `${folder}/debian-${version}-genericcloud-${machine}.qcow2`,
      checksumUrl: `${folder}/SHA512SUMS`,
      user: 'debian',
    };
  };

const ubuntu =
  (codename: string): Builder =>
  (architecture) => {
    const folder = `https://cloud-images.ubuntu.com/${codename}/current`;
    const machine = architecture === 'x64' ? 'amd64' : 'arm64';
    return {
      url: `${folder}/${codename}-server-cloudimg-${machine}.img`,
      checksumUrl: `${folder}/SHA256SUMS`,
      user: 'ubuntu',
    };
  };

const PRESETS: ReadonlyMap<string, Builder> = new Map([
  ['debian-12', debian('bookworm', 12)],
  ['debian-13', debian('trixie', 13)],
  ['ubuntu-22.04', ubuntu('jammy')],
  ['ubuntu-24.04', ubuntu('noble')],
]);

/** The names that `image-preset` takes. */
export const imagePresetNames: readonly string[] = [...PRESETS.keys()];

/** The image of that name for an architecture; undefined when there is none. */
export function imagePreset(name: string, architecture: string): ImagePreset | undefined {
  if (architecture !== 'x64' && architecture !== 'arm64') return undefined;
  return PRESETS.get(name)?.(architecture);
}
