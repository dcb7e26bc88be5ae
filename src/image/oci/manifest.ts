/**
 * What a manifest says: which image of several is for this host, and which of its layers is the disk. Pure. The words
 * are those of the OCI image specification 1.1; Docker's manifests mean the same.
 */
import type { Buffer } from 'node:buffer';
import * as v from 'valibot';
import { VmctlError } from '../../errors.js';
import type { Checksum } from '../../model/spec.js';
import { parseJson } from './body.js';

export const MEDIA_TYPES = {
  index: 'application/vnd.oci.image.index.v1+json',
  manifest: 'application/vnd.oci.image.manifest.v1+json',
  dockerIndex: 'application/vnd.docker.distribution.manifest.list.v2+json',
  dockerManifest: 'application/vnd.docker.distribution.manifest.v2+json',
  /** What this whole kind of artifact is, and its parts. */
  artifact: 'application/vnd.cloudnebula.vm.v1',
  config: 'application/vnd.cloudnebula.qcow2.config.v1+json',
  qcow2: 'application/vnd.cloudnebula.qcow2.layer.v1',
  raw: 'application/octet-stream',
} as const;

export const TITLE = 'org.opencontainers.image.title';

/** A guest's processor, in the registries' words: `amd64`, `arm64`. */
export interface Platform {
  readonly architecture: string;
}

/** The blob that is a disk, perhaps compressed. */
export interface DiskLayer {
  /** `sha256:…` or `sha512:…` */
  readonly digest: string;
  readonly bytes: number;
  readonly mediaType: string;
  /** The name of the file that it was made from. */
  readonly title: string | null;
}

const Digest = v.pipe(v.string(), v.regex(/^(?:sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})$/));

const Descriptor = v.object({
  mediaType: v.optional(v.string(), ''),
  digest: Digest,
  size: v.pipe(v.number(), v.safeInteger(), v.minValue(0)),
  annotations: v.nullish(v.record(v.string(), v.string()), {}),
  platform: v.nullish(
    v.object({
      os: v.optional(v.string(), ''),
      architecture: v.optional(v.string(), ''),
      variant: v.optional(v.string(), ''),
    }),
    null,
  ),
});

export type Descriptor = v.InferOutput<typeof Descriptor>;

const Manifest = v.union([
  v.object({ manifests: v.array(Descriptor), layers: v.optional(v.undefined()) }),
  v.object({ config: Descriptor, layers: v.array(Descriptor), manifests: v.optional(v.undefined()) }),
]);

export type Index = Extract<v.InferOutput<typeof Manifest>, { manifests: readonly unknown[] }>;
export type ImageManifest = Extract<v.InferOutput<typeof Manifest>, { layers: readonly unknown[] }>;

/** The names that some tools give to the architectures. */
const ALIASES: Readonly<Record<string, string>> = { x64: 'amd64', x86_64: 'amd64', aarch64: 'arm64' };
/** Which variant is taken first where there are several; what runs on any processor of the kind stands first. */
const VARIANTS: readonly string[] = ['', 'v1', 'v8', 'v2', 'v3', 'v4', 'v9'];
/** Says for which hypervisor a disk is, in the images of podman's machines. */
const DISK_TYPE = 'disktype';
/** Set by ORAS on folders, which it packs into archives. */
const PACKED_FOLDER = 'io.deis.oras.content.unpack';

/** Image configurations that tell the architecture; others may be anything. */
const PLATFORM_CONFIGS: readonly string[] = [
  MEDIA_TYPES.config,
  'application/vnd.oci.image.config.v1+json',
  'application/vnd.docker.container.image.v1+json',
  // What ORAS makes for a platform.
  'application/vnd.unknown.config.v1+json',
];

/**
 * Whether a media type says "a disk": `…cloudnebula.qcow2.layer.v1`, `…lfedge.disk.layer.v1+qcow2`, `vnd.qemu.qcow2`,
 * `vnd.diskimage.raw.gzip`, `…gardenlinux.image.format.qcow2`, `…virter.layer.v1.qcow2.gzip`, `x-raw-disk-image`.
 */
const DISK_TYPES = /(?:^|[/.+-])(?:qcow2|raw|x-qemu-disk)(?:$|[.+-])/;
const TAR_TYPES = /(?:^|[/.+-])tar(?:$|[.+-])/;
const JSON_TYPES = /[+/]json$/;
const DISK_TITLE = /\.(?:qcow2|img|raw)(?:\.(?:gz|zst|zstd|xz|bz2))?$/i;
/** These may be anything, and are taken for a disk where nothing else is. */
const ANY_TYPES = /^application\/(?:octet-stream(?:\+\w+)?|(?:x-)?(?:gzip|zstd|xz|bzip2))$/;
const MOST_SHOWN = 20;

/** The platform of a machine that Node calls this. */
export function platformOf(nodeArchitecture: string): Platform {
  return { architecture: ALIASES[nodeArchitecture] ?? nodeArchitecture };
}

/** Throws `IMAGE_INVALID` for what is neither a manifest nor an index, or both. */
export function parseManifest(bytes: Buffer, shown: string): Index | ImageManifest {
  const document = parseJson(bytes);
  const parsed = v.safeParse(Manifest, document);
  if (parsed.success) return parsed.output;
  const old = v.is(v.object({ schemaVersion: v.literal(1) }), document);
  throw invalid(shown, old ? 'is a container image in a format of 2014' : 'has no manifest that can be understood', {
    hint: old ? 'vmctl boots disk images; push one with: vmctl image push.' : 'Ask whoever pushed it to push it again.',
  });
}

/** The image for a platform, of an index. Throws `IMAGE_NOT_FOUND` with what there is. */
export function chooseManifest({ manifests }: Index, { architecture }: Platform, shown: string): Descriptor {
  const images = manifests.filter((entry) => !isAttestation(entry));
  const [only] = images;
  if (images.length === 1 && only !== undefined && only.platform === null) return only;
  const fitting = images.filter(
    ({ platform }) => platform?.os === 'linux' && platformOf(platform.architecture).architecture === architecture,
  );
  const forQemu = fitting.filter(({ annotations }) => annotations?.[DISK_TYPE] === 'qemu');
  const [chosen] = (forQemu.length > 0 ? forQemu : fitting).toSorted((a, b) => rank(a) - rank(b));
  if (chosen !== undefined) return chosen;
  throw new VmctlError('IMAGE_NOT_FOUND', `${shown} has no image for linux/${architecture}`, {
    details:
      images.length === 0 ? 'It has none at all.' : listed(images.map((one) => `${platformText(one)}  ${one.digest}`)),
    hint: `Choose one by its digest: ${shown.replace(/[:@][^/]*$/, '')}@sha256:….`,
    fields: { architecture },
  });
}

/** Whether the configuration has to be read to know the architecture. */
export function tellsPlatform({ config }: ImageManifest): boolean {
  return PLATFORM_CONFIGS.includes(config.mediaType);
}

/** Throws `IMAGE_NOT_FOUND` for a configuration that names another architecture; one that names none fits. */
export function checkPlatform(config: Buffer, { architecture }: Platform, shown: string): void {
  const parsed = v.safeParse(v.object({ architecture: v.string() }), parseJson(config));
  if (!parsed.success || parsed.output.architecture === '') return;
  const theirs = platformOf(parsed.output.architecture).architecture;
  if (theirs === architecture || theirs === 'unknown') return;
  throw new VmctlError('IMAGE_NOT_FOUND', `${shown} is for ${theirs}, and this host is ${architecture}`, {
    hint: `Ask whoever pushed it for an image for ${architecture}.`,
    fields: { architecture },
  });
}

/** The one layer that is a disk. Throws `IMAGE_INVALID` with the layers where there is none, or no telling which. */
export function diskLayer({ layers }: ImageManifest, shown: string): DiskLayer {
  const files = layers.filter(({ annotations }) => annotations?.[PACKED_FOLDER] !== 'true');
  const kinds = [
    files.filter(
      ({ mediaType }) => DISK_TYPES.test(mediaType) && !TAR_TYPES.test(mediaType) && !JSON_TYPES.test(mediaType),
    ),
    // ORAS pushes a file whose type nobody told it as a tar archive, which it is not.
    files.filter(({ annotations }) => DISK_TITLE.test(annotations?.[TITLE] ?? '')),
    files.filter(({ mediaType }) => ANY_TYPES.test(mediaType)),
  ];
  const found = kinds.find((kind) => kind.length > 0) ?? [];
  const [layer] = found;
  if (layer !== undefined && found.length === 1) {
    const { digest, size: bytes, mediaType } = layer;
    return { digest, bytes, mediaType, title: layer.annotations?.[TITLE] ?? null };
  }
  if (found.length === 0 && layers.length > 0 && layers.every(({ mediaType }) => TAR_TYPES.test(mediaType))) {
    throw invalid(shown, 'is a container image, not a disk image', {
      hint: 'vmctl boots disks; a disk inside of a container image has to be taken out and pushed with: vmctl image push.',
    });
  }
  throw invalid(shown, found.length === 0 ? 'has no layer that is a disk image' : 'has several disk images', {
    details:
      layers.length === 0 ? 'It has no layers at all.' : listed((found.length === 0 ? layers : found).map(layerText)),
    hint: 'Push the disk image alone: vmctl image push.',
  });
}

/** What the bytes of a blob are held against. */
export function checksumOf(digest: string): Checksum {
  const [algorithm, hex = ''] = digest.split(':');
  return { algorithm: algorithm === 'sha512' ? 'sha512' : 'sha256', digest: hex };
}

function isAttestation({ platform, annotations }: Descriptor): boolean {
  return (
    annotations?.['vnd.docker.reference.type'] === 'attestation-manifest' ||
    (platform?.os === 'unknown' && platform.architecture === 'unknown')
  );
}

function rank({ platform }: Descriptor): number {
  const place = VARIANTS.indexOf(platform?.variant ?? '');
  return place === -1 ? VARIANTS.length : place;
}

function platformText({ platform, annotations }: Descriptor): string {
  if (platform === null) return 'no platform';
  const { os, architecture, variant } = platform;
  const type = annotations?.[DISK_TYPE];
  return `${[os, architecture, variant].filter((word) => word !== '').join('/')}${type === undefined ? '' : ` (${type})`}`;
}

function layerText({ mediaType, size, digest, annotations }: Descriptor): string {
  const title = annotations?.[TITLE];
  return `${mediaType}  ${size} bytes  ${digest}${title === undefined ? '' : `  ${title}`}`;
}

/** What the registry says goes to a terminal: no control characters, and not without end. */
function listed(lines: readonly string[]): string {
  const shown = lines.slice(0, MOST_SHOWN).map((line) => line.replaceAll(/\p{Cc}/gu, '').slice(0, 300));
  return [...shown, ...(lines.length > MOST_SHOWN ? [`… and ${lines.length - MOST_SHOWN} more`] : [])].join('\n');
}

function invalid(
  shown: string,
  problem: string,
  { hint, details }: { readonly hint: string; readonly details?: string },
): VmctlError {
  return new VmctlError('IMAGE_INVALID', `${shown} ${problem}`, {
    hint,
    ...(details === undefined ? {} : { details }),
    fields: { image: shown, reason: problem },
  });
}
