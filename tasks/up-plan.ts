/** What `up` will do for a VM, decided from facts alone. */
import { isDeepStrictEqual } from 'node:util';
import type { Change, UpAction } from '../src/model/plan.js';
import type { CloudInitSpec, ImageSource, NetworkSpec, VmSpec } from '../src/model/spec.js';
import { unreachable } from '../src/errors.js';
import { shownPlace } from '../src/image/source.js';
import type { ObservedVm } from '../src/model/vm.js';
import type { VmRecord } from '../src/registry.js';
import { bytesText } from './progress-text.js';
import { DISK_ERROR } from './remarks.js';

export interface UpFacts {
  /** Null: there is no such VM. */
  readonly observed: ObservedVm | null;
  readonly record: VmRecord | null;
  /** It still runs, but its guest was asked to power off. */
  readonly poweringOff: boolean;
  /** It is stopped, and its memory is saved. */
  readonly suspendedToDisk: boolean;
  /** True for `reload`. */
  readonly anew: boolean;
}

export interface UpDecision {
  readonly action: UpAction;
  /** In a few words, for `up --dry-run`. */
  readonly reason: string;
}

export function decideUp({ observed, record, poweringOff, suspendedToDisk, anew }: UpFacts): UpDecision {
  if (observed === null) return { action: 'create', reason: 'there is no such VM yet' };
  if (anew) return { action: 'recreate', reason: `it is ${observed.state}, and is to be made anew` };
  if (record?.warm?.settled === false) {
    return { action: 'recreate', reason: 'vmctl was interrupted while it was restored from what was frozen' };
  }
  if (suspendedToDisk) return { action: 'start', reason: 'it is suspended to the disk, and goes on' };
  if (observed.state === 'stopped') return { action: 'start', reason: 'it is stopped' };
  if (poweringOff) return { action: 'start', reason: 'it is powering off, and is started again then' };
  if (observed.state === 'suspended') {
    const why = observed.pausedBy === 'disk-error' ? `: ${DISK_ERROR}` : '';
    return { action: 'resume', reason: `it is suspended${why}` };
  }
  if (record?.provisioning === 'done') return { action: 'none', reason: 'it is running and provisioned' };
  const how = record?.provisioning === 'failed' ? 'failed' : 'was not finished';
  return { action: 'provision', reason: `it is running, but its provisioning ${how}` };
}

/** What can only change by making the VM anew: the node, the part of the spec that it decides, and that part in words. */
const FIXED: readonly { node: string; part: (spec: VmSpec) => unknown; words: (spec: VmSpec) => string }[] = [
  { node: 'image', part: ({ image }) => image, words: ({ image }) => imageText(image) },
  { node: 'vcpus', part: ({ vcpus }) => vcpus, words: ({ vcpus }) => String(vcpus) },
  { node: 'memory', part: ({ memoryMib }) => memoryMib, words: ({ memoryMib }) => `${memoryMib} MiB` },
  {
    node: 'disk',
    part: ({ diskBytes }) => diskBytes,
    words: ({ diskBytes }) => (diskBytes === null ? 'that of the image' : bytesText(diskBytes)),
  },
  { node: 'firmware', part: ({ firmware }) => firmware, words: ({ firmware }) => firmware },
  { node: 'network', part: ({ network }) => withoutOthers(network), words: ({ network }) => networkText(network) },
  { node: 'cloud-init', part: ({ cloudInit }) => cloudInit, words: ({ cloudInit }) => cloudInitText(cloudInit) },
  // The seed makes this user, unless the user-data is somebody else's.
  {
    node: 'ssh user',
    part: ({ cloudInit, ssh }) => (cloudInit === null || cloudInit.userData.kind === 'raw' ? null : ssh.user),
    words: ({ ssh }) => ssh.user,
  },
];

/** Where what is declared now differs from what the VM was made with. */
export function changesBetween(made: VmSpec, declared: VmSpec): readonly Change[] {
  return FIXED.filter(({ part }) => !isDeepStrictEqual(part(made), part(declared))).map(({ node, words }) => ({
    node,
    made: words(made),
    declared: words(declared),
  }));
}

/** `memory is 1024 MiB and declared as 2048 MiB` */
export function changeText({ node, made, declared }: Change): string {
  return made === declared ? `${node} has changed` : `${node} is ${made}, and declared as ${declared}`;
}

function imageText(image: ImageSource): string {
  if (image.kind === 'file') return image.path;
  const { checksum } = image;
  const url = shownPlace(image.url);
  if (checksum === null) return url;
  return `${url} (${checksum.algorithm === 'list' ? `as in ${shownPlace(checksum.url)}` : `${checksum.algorithm} ${checksum.digest}`})`;
}

/** Who else is on its LAN is told to a VM while it runs. */
function withoutOthers(network: NetworkSpec): NetworkSpec {
  if (network.kind !== 'user' || network.lan === null) return network;
  return { ...network, lan: { ...network.lan, members: [] } };
}

function networkText(network: NetworkSpec): string {
  switch (network.kind) {
    case 'user':
      return [
        'user',
        ...network.forwards.map(({ host, guest }) => `forward ${host} ${guest}`),
        ...(network.lan === null ? [] : [`lan ${network.lan.name} at ${network.lan.address}`]),
      ].join(', ');
    case 'tap':
      return `tap on ${network.bridge}`;
    case 'vnic':
      return `vnic ${network.vnic}`;
    case 'none':
      return 'none';
    default:
      return unreachable(network);
  }
}

function cloudInitText(cloudInit: CloudInitSpec | null): string {
  if (cloudInit === null) return 'none';
  const { hostname, userData, networkConfig } = cloudInit;
  const from = userData.kind === 'generated-key' ? 'a generated key' : `${userData.kind} ${userData.path}`;
  const config = networkConfig === null ? [] : [`network-config ${networkConfig}`];
  return [`hostname ${hostname}`, from, ...config].join(', ');
}
