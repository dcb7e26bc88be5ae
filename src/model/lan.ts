/**
 * The private network of VMs that name the same LAN, as pure functions: who has which address and MAC, and on which
 * multicast group the segment is.
 *
 * Every LAN is 10.77.0.0/24. A VM is on one LAN at most and segments do not touch, so several LANs need no subnets of
 * their own, and an address says nothing of which other LANs there are. An address is also the last four bytes of the
 * MAC, so that two cards of one segment cannot have the same MAC as long as they have not the same address.
 */
import { createHash } from 'node:crypto';
import type { LanSpec, VmSpec } from './spec.js';

const SUBNET = [10, 77, 0] as const;
export const LAN_SUBNET = `${SUBNET.join('.')}.0/24`;
export const LAN_PREFIX_LENGTH = 24;

/** The first member of a LAN has the address after this one; those up to it are for `address="…"`. */
const RESERVED = 10;
const LAST_HOST = 254;

/** How many VMs a LAN has addresses for. */
export const LAN_SIZE = LAST_HOST - RESERVED;

/**
 * The address of a LAN's member by its place among the members of the file, from 0; null beyond the last one. An
 * address that is declared changes nobody else's, and neither does a member that is added at the end.
 */
export function lanAddressAt(place: number): string | null {
  return place < LAN_SIZE ? [...SUBNET, RESERVED + 1 + place].join('.') : null;
}

/** Why an IPv4 address cannot be a member's, to follow "…, but"; null where it can. */
export function lanAddressProblem(address: string): string | null {
  const parts = address.split('.').map(Number);
  if (SUBNET.some((part, i) => parts[i] !== part)) return `a LAN is ${LAN_SUBNET}`;
  const host = parts[3] ?? 0;
  if (host === 0) return 'that is the address of the network itself';
  return host > LAST_HOST ? 'that is the address for all at once' : null;
}

/** The MAC of the card that has this address: a locally administered one (IEEE 802, the bit of value 2 in the first byte). */
export function lanMac(address: string): string {
  return ['02', '4c', ...address.split('.').map((part) => Number(part).toString(16).padStart(2, '0'))].join(':');
}

/** Where the frames of a LAN go. */
export interface LanSegment {
  /** An IPv4 multicast group. */
  readonly group: string;
  /** UDP */
  readonly port: number;
}

const FIRST_PORT = 12_000;
/** Below the ports that Linux gives to whoever asks for any (32768 and above). */
const PORTS = 20_000;

/**
 * The segment of a LAN of a project, in the folder that its VMs are in: every run of a program has a folder of its own,
 * so the same project twice at the same time is two segments.
 *
 * The group is one of 2^24 that are administratively scoped (RFC 2365), the port one of 20,000, both from a digest, and a
 * socket hears its own group and port alone. That two LANs of a host meet takes both to be equal, one chance in 3.4e11:
 * with a thousand LANs running at once, 1.5 in a million that any two of them do.
 */
export function lanSegment(lan: {
  readonly project: string | null;
  readonly vms: string;
  readonly name: string;
}): LanSegment {
  const digest = createHash('sha256')
    .update(JSON.stringify(['lan', lan.vms, lan.project, lan.name]))
    .digest();
  return {
    group: `239.${digest.readUInt8(0)}.${digest.readUInt8(1)}.${digest.readUInt8(2)}`,
    port: FIRST_PORT + (digest.readUInt32BE(3) % PORTS),
  };
}

/** Everything that a VM's LAN makes of it and tells it, for its card, its seed and its hosts file. */
export interface LanIdentity {
  readonly mac: string;
  readonly address: string;
  readonly prefixLength: number;
  /** The lines of its hosts file: every member, itself too, in the order of the file. */
  readonly hosts: readonly string[];
}

/** Null for a VM that is on no LAN. */
export function lanIdentity(spec: Pick<VmSpec, 'network'>): LanIdentity | null {
  const lan = lanOf(spec);
  if (lan === null) return null;
  const { address, members } = lan;
  const hosts = members.map((member) => [member.address, ...member.names].join(' '));
  return { mac: lanMac(address), address, prefixLength: LAN_PREFIX_LENGTH, hosts };
}

/** Where a VM is on its LAN, for lists. */
export interface LanPlace {
  readonly name: string;
  /** An IPv4 address. */
  readonly address: string;
  readonly mac: string;
}

export function lanPlace(lan: LanSpec | null): LanPlace | null {
  return lan === null ? null : { name: lan.name, address: lan.address, mac: lanMac(lan.address) };
}

/** Null for a VM that is on no LAN. */
export function lanOf({ network }: Pick<VmSpec, 'network'>): LanSpec | null {
  return network.kind === 'user' ? network.lan : null;
}

/** What a provision step is told: its VM's own address, and that of every other member by its name. */
export function lanVariables(spec: Pick<VmSpec, 'name' | 'network'>): Readonly<Record<string, string>> {
  const lan = lanOf(spec);
  if (lan === null) return {};
  const peers = lan.members.filter((member) => member.vm !== spec.name);
  const variables = peers.map(({ vm, address }) => [peerVariable(vm), address] as const);
  return { VMCTL_LAN_ADDRESS: lan.address, ...Object.fromEntries(variables) };
}

/** `VMCTL_PEER_WEB_1` for the VM "web-1". */
export function peerVariable(vm: string): string {
  return `VMCTL_PEER_${vm.toUpperCase().replaceAll(/[^A-Z0-9]/g, '_')}`;
}
