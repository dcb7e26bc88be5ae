/**
 * The address of a guest on a bridge. Nobody tells it, so it is found by the guest's MAC: in the host's neighbour
 * table, which knows who has lately spoken, and in what dnsmasq has written down about its leases.
 */
import { isIPv4 } from 'node:net';
import * as v from 'valibot';
import type { Forward } from '../../model/spec.js';
import type { Endpoint, VmHandle } from '../../model/vm.js';
import type { CommandRunner } from '../../util/exec.js';
import { readTextIfPresent } from '../../util/fs.js';
import { SSH_PORT } from './command-line.js';
import { tapOf } from './tap.js';

/** Somebody on the same segment, as `ip neigh` tells. */
export interface Neighbour {
  readonly address: string;
  /** Lower case. */
  readonly mac: string;
  /** The kernel believes in it; otherwise it was right some time ago. */
  readonly fresh: boolean;
  /** Seconds since it was last known to be right. */
  readonly age: number;
}

export interface Lease {
  readonly address: string;
  /** Lower case. */
  readonly mac: string;
  /** Seconds since the epoch; infinite for a lease that does not end. */
  readonly expires: number;
}

/**
 * Where lease files are looked for, with `{bridge}` for the bridge's name: dnsmasq's own on Debian and on Fedora, and
 * those of the dnsmasq that libvirt and NetworkManager start.
 */
export const LEASE_FILES: readonly string[] = [
  '/var/lib/misc/dnsmasq.leases',
  '/var/lib/dnsmasq/dnsmasq.leases',
  '/var/lib/libvirt/dnsmasq/{bridge}.status',
  '/var/lib/NetworkManager/dnsmasq-{bridge}.leases',
];

export interface AddressSources {
  readonly run: CommandRunner;
  /** Paths, with `{bridge}` for the bridge's name. One that cannot be read counts as empty. */
  readonly leaseFiles: readonly string[];
}

/**
 * Where SSH of a running guest can be reached: through the forward of the user network, or at the guest's own address
 * on its bridge as soon as that is known.
 */
export async function findSsh(
  { mac, spec }: Pick<VmHandle, 'mac' | 'spec'>,
  { forwards, ...sources }: AddressSources & { readonly forwards: readonly Forward[] },
): Promise<Endpoint | null> {
  const forward = forwards.find(({ guest }) => guest === SSH_PORT);
  if (forward !== undefined) return { host: '127.0.0.1', port: forward.host };
  const tap = tapOf(spec);
  if (tap === null || mac === null) return null;
  const host = await findGuestAddress({ mac, bridge: tap.bridge }, sources);
  return host === null ? null : { host, port: SSH_PORT };
}

/** The guest's address; null while nobody knows it, or where the host cannot be asked. */
export async function findGuestAddress(
  guest: { readonly mac: string; readonly bridge: string },
  { run, leaseFiles }: AddressSources,
): Promise<string | null> {
  const { mac, bridge } = guest;
  const neighbours = await run('ip', ['-statistics', '-json', 'neigh', 'show', 'dev', bridge]).then(
    ({ stdout }) => parseNeighbours(stdout),
    () => [],
  );
  const paths = leaseFiles.map((path) => path.replaceAll('{bridge}', bridge));
  const texts = await Promise.all(paths.map((path) => readTextIfPresent(path).catch(() => null)));
  return chooseAddress(mac, { neighbours, leases: texts.flatMap((text) => (text === null ? [] : parseLeases(text))) });
}

/**
 * Whoever is believed in comes first, then the lease that ends last, because an old neighbour may have had another
 * address before its restart; then old neighbours, for guests whose address is not leased. IPv4 comes before IPv6.
 */
export function chooseAddress(
  mac: string,
  known: { readonly neighbours: readonly Neighbour[]; readonly leases: readonly Lease[] },
): string | null {
  const wanted = mac.toLowerCase();
  const neighbours = known.neighbours.filter((one) => one.mac === wanted).toSorted((a, b) => a.age - b.age);
  const leases = known.leases.filter((one) => one.mac === wanted).toSorted((a, b) => later(a.expires, b.expires));
  const ranked = [...neighbours.filter(({ fresh }) => fresh), ...leases, ...neighbours.filter(({ fresh }) => !fresh)];
  const usable = ranked.map(({ address }) => address).filter((address) => !isLinkLocal(address));
  return usable.find((address) => isIPv4(address)) ?? usable[0] ?? null;
}

function later(a: number, b: number): number {
  if (a === b) return 0;
  return a > b ? -1 : 1;
}

/** Such an address is good together with an interface only. */
function isLinkLocal(address: string): boolean {
  return address.toLowerCase().startsWith('fe80:') || address.startsWith('169.254.');
}

const neighboursSchema = v.array(
  v.object({
    dst: v.string(),
    lladdr: v.optional(v.string()),
    confirmed: v.optional(v.number(), 0),
    state: v.optional(v.array(v.string()), []),
  }),
);

/** States in which the kernel uses an entry without asking, or has only just begun to (ip-neighbour(8)). */
const FRESH = new Set(['REACHABLE', 'PERMANENT', 'NOARP', 'DELAY', 'PROBE']);

/** Reads `ip -statistics -json neigh`; what cannot be read has no neighbours. */
export function parseNeighbours(text: string): readonly Neighbour[] {
  const parsed = v.safeParse(v.pipe(v.string(), v.parseJson(), neighboursSchema), text);
  if (!parsed.success) return [];
  return parsed.output.flatMap(({ dst, lladdr, confirmed, state }) => {
    if (lladdr === undefined || state.includes('FAILED')) return [];
    const fresh = state.some((one) => FRESH.has(one));
    return [{ address: dst, mac: lladdr.toLowerCase(), fresh, age: confirmed }];
  });
}

const statusSchema = v.array(
  v.object({ 'ip-address': v.string(), 'mac-address': v.string(), 'expiry-time': v.optional(v.number(), 0) }),
);

/**
 * Reads a lease file: dnsmasq's lines (`1700000000 52:54:00:12:34:56 10.0.0.5 web 01:52:…`, 0 for a lease without an
 * end), or the JSON that libvirt keeps beside its networks. Leases of IPv6 name no MAC and are left out.
 */
export function parseLeases(text: string): readonly Lease[] {
  if (text.trimStart().startsWith('[')) {
    const parsed = v.safeParse(v.pipe(v.string(), v.parseJson(), statusSchema), text);
    if (!parsed.success) return [];
    return parsed.output.map((entry) => lease(entry['ip-address'], entry['mac-address'], entry['expiry-time']));
  }
  return text.split('\n').flatMap((line) => {
    const match = /^(\d+) ((?:[0-9a-f]{2}:){5}[0-9a-f]{2}) (\S+) /i.exec(line);
    const [, expires, mac, address] = match ?? [];
    if (mac === undefined || address === undefined || !isIPv4(address)) return [];
    return [lease(address, mac, Number(expires))];
  });
}

function lease(address: string, mac: string, expires: number): Lease {
  return { address, mac: mac.toLowerCase(), expires: expires === 0 ? Number.POSITIVE_INFINITY : expires };
}
