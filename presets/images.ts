/**
 * Named public cloud images: where each distribution publishes its newest build, the list of checksums beside it, and
 * what the image's cloud-init calls its user. None of this can be looked up while vmctl is tested: each address and
 * list was found in at least one public source that uses it (templates of Lima, the container disks of KubeVirt, Packer
 * and Terraform files), and `docs/images.md` has the table.
 *
 * Left out: releases that are kept for nine months only, and images that the distribution itself does not publish.
 */
import type { ChecksumList, FirmwareKind } from '../src/model/spec.js';

/** Node's name of a processor architecture (`process.arch`). */
export type PresetArchitecture = 'x64' | 'arm64';

export interface PresetImage {
  readonly url: string;
  /** The distribution's own list of checksums for that file. */
  readonly checksum: ChecksumList;
  /** The login that the image's cloud-init makes. */
  readonly user: string;
  /** What the image is started with. */
  readonly firmware: FirmwareKind;
}

export interface ImagePreset {
  readonly name: string;
  /** `Debian 12 (bookworm)` */
  readonly description: string;
  readonly user: string;
  /** Undefined where the distribution publishes none for the architecture. */
  readonly images: Readonly<Record<PresetArchitecture, PresetImage | undefined>>;
}

interface Files {
  readonly url: string;
  readonly list: string;
}

interface Row {
  readonly description: string;
  readonly user: string;
  /** For an image without bash. */
  readonly shell?: string;
  /** Undefined where the distribution publishes no image for the architecture. */
  readonly files: (architecture: PresetArchitecture) => Files | undefined;
}

/** The kernel's name, which most distributions use; Debian and Ubuntu have names of their own. */
const MACHINE = { x64: 'x86_64', arm64: 'aarch64' } as const;
const DEBIAN_MACHINE = { x64: 'amd64', arm64: 'arm64' } as const;

/** A list in the image's folder. */
const inFolder = (folder: string, image: string, list: string): Files => ({
  url: `${folder}/${image}`,
  list: `${folder}/${list}`,
});

/** A list for this one image: its name and something behind it. */
const besideIt = (url: string, suffix: string): Files => ({ url, list: `${url}${suffix}` });

const debian = (version: number, codename: string): Row => ({
  description: `Debian ${version} (${codename})`,
  user: 'debian',
  files: (architecture) =>
    inFolder(
      `https://cloud.debian.org/images/cloud/${codename}/latest`,
      `debian-${version}-genericcloud-${DEBIAN_MACHINE[architecture]}.qcow2`,
      'SHA512SUMS',
    ),
});

/** `releases/…/release` has the builds that Ubuntu has tested, and changes more seldom than `current`, the daily one. */
const ubuntu = (version: string, codename: string): Row => ({
  description: `Ubuntu ${version} LTS`,
  user: 'ubuntu',
  files: (architecture) =>
    inFolder(
      `https://cloud-images.ubuntu.com/releases/${codename}/release`,
      `ubuntu-${version}-server-cloudimg-${DEBIAN_MACHINE[architecture]}.img`,
      'SHA256SUMS',
    ),
});

const FEDORA = 'https://dl.fedoraproject.org/pub/fedora/linux/releases';
/** Where Fedora keeps releases that have reached their end, about 13 months after they came out. */
const FEDORA_ARCHIVE = 'https://archives.fedoraproject.org/pub/archive/fedora/linux/releases';

/**
 * A release is built once, and its number is in the file names. `download.fedoraproject.org` would choose a mirror, but
 * has been seen to choose one without https, which vmctl does not follow.
 */
const fedora = (release: number, build: string, root = FEDORA): Row => ({
  description: `Fedora ${release} Cloud`,
  user: 'fedora',
  files: (architecture) =>
    inFolder(
      `${root}/${release}/Cloud/${MACHINE[architecture]}/images`,
      `Fedora-Cloud-Base-Generic-${release}-${build}.${MACHINE[architecture]}.qcow2`,
      `Fedora-Cloud-${release}-${build}-${MACHINE[architecture]}-CHECKSUM`,
    ),
});

/** Alpine has no name for the newest build of a branch. Its images start with one firmware each. */
const alpine = (branch: string, point: number): Row => ({
  description: `Alpine Linux ${branch}`,
  user: 'alpine',
  // cloud-init's default for Alpine; bash is not in the image.
  shell: '/bin/ash',
  files: (architecture) => {
    const variant = `${MACHINE[architecture]}-${firmwareOf(architecture)}`;
    const folder = `https://dl-cdn.alpinelinux.org/alpine/v${branch}/releases/cloud`;
    return besideIt(`${folder}/nocloud_alpine-${branch}.${point}-${variant}-cloudinit-r0.qcow2`, '.sha512');
  },
});

const rocky = (release: number): Row => ({
  description: `Rocky Linux ${release}`,
  user: 'rocky',
  files: (architecture) =>
    besideIt(
      `https://dl.rockylinux.org/pub/rocky/${release}/images/${MACHINE[architecture]}/` +
        `Rocky-${release}-GenericCloud-Base.latest.${MACHINE[architecture]}.qcow2`,
      '.CHECKSUM',
    ),
});

const almalinux = (release: number): Row => ({
  description: `AlmaLinux ${release}`,
  user: 'almalinux',
  files: (architecture) =>
    inFolder(
      `https://repo.almalinux.org/almalinux/${release}/cloud/${MACHINE[architecture]}/images`,
      `AlmaLinux-${release}-GenericCloud-latest.${MACHINE[architecture]}.qcow2`,
      'CHECKSUM',
    ),
});

const centosStream = (release: number): Row => ({
  description: `CentOS Stream ${release}`,
  user: 'cloud-user',
  files: (architecture) =>
    besideIt(
      `https://cloud.centos.org/centos/${release}-stream/${MACHINE[architecture]}/images/` +
        `CentOS-Stream-GenericCloud-${release}-latest.${MACHINE[architecture]}.qcow2`,
      '.SHA256SUM',
    ),
});

/** The server hands over to mirrors, for https to such with https. */
const opensuse = (release: string, prefix: string): Row => ({
  description: `openSUSE Leap ${release}`,
  user: 'opensuse',
  files: (architecture) =>
    besideIt(
      `https://download.opensuse.org/distribution/leap/${release}/appliances/` +
        `${prefix}-${release}-Minimal-VM.${MACHINE[architecture]}-Cloud.qcow2`,
      '.sha256',
    ),
});

const arch: Row = {
  description: 'Arch Linux, the newest build',
  user: 'arch',
  files: (architecture) =>
    architecture === 'x64'
      ? besideIt('https://geo.mirror.pkgbuild.com/images/latest/Arch-Linux-x86_64-cloudimg.qcow2', '.SHA256')
      : undefined,
};

const ROWS: readonly (readonly [name: string, row: Row])[] = [
  ['almalinux-9', almalinux(9)],
  ['almalinux-10', almalinux(10)],
  ['alpine-3.22', alpine('3.22', 4)],
  ['alpine-3.23', alpine('3.23', 4)],
  ['arch', arch],
  ['centos-stream-9', centosStream(9)],
  ['centos-stream-10', centosStream(10)],
  ['debian-11', debian(11, 'bullseye')],
  ['debian-12', debian(12, 'bookworm')],
  ['debian-13', debian(13, 'trixie')],
  ['fedora-42', fedora(42, '1.1', FEDORA_ARCHIVE)],
  ['fedora-43', fedora(43, '1.6')],
  ['fedora-44', fedora(44, '1.7')],
  ['opensuse-15.6', opensuse('15.6', 'openSUSE-Leap')],
  ['opensuse-16.0', opensuse('16.0', 'Leap')],
  ['rocky-9', rocky(9)],
  ['rocky-10', rocky(10)],
  ['ubuntu-22.04', ubuntu('22.04', 'jammy')],
  ['ubuntu-24.04', ubuntu('24.04', 'noble')],
  ['ubuntu-26.04', ubuntu('26.04', 'resolute')],
];

const ARCHITECTURES: readonly PresetArchitecture[] = ['x64', 'arm64'];

/** Every preset, by name. */
export const IMAGE_PRESETS: readonly ImagePreset[] = ROWS.map(([name, row]) => ({
  name,
  description: row.description,
  user: row.user,
  images: { x64: imageOf(row, 'x64'), arm64: imageOf(row, 'arm64') },
}));

/** The names that `image-preset` takes. */
export const imagePresetNames: readonly string[] = IMAGE_PRESETS.map(({ name }) => name);

/** The image of that name for an architecture; undefined when there is none. */
export function imagePreset(name: string, architecture: string): PresetImage | undefined {
  if (architecture !== 'x64' && architecture !== 'arm64') return undefined;
  return IMAGE_PRESETS.find((preset) => preset.name === name)?.images[architecture];
}

/** The login shell of a preset's image that has no bash, whoever names it by its URL; undefined for any other. */
export function presetShell(url: string): string | undefined {
  return ROWS.find(([, { files }]) => ARCHITECTURES.some((one) => files(one)?.url === url))?.[1].shell;
}

function imageOf({ user, files }: Row, architecture: PresetArchitecture): PresetImage | undefined {
  const found = files(architecture);
  if (found === undefined) return undefined;
  const { url, list } = found;
  return { url, checksum: { algorithm: 'list', url: list }, user, firmware: firmwareOf(architecture) };
}

/**
 * The images for x64 start with a BIOS (those of Alpine and CentOS Stream with nothing else), which needs no firmware
 * package on the host; those for arm64 know UEFI alone.
 */
function firmwareOf(architecture: PresetArchitecture): FirmwareKind {
  return architecture === 'x64' ? 'bios' : 'uefi';
}
