/** Where a guest is reached: at the address that its user gave it, or at the one that this host has lately heard of. */
import type { Endpoint, VmHandle } from '../../model/vm.js';
import { findInArp } from './delimited.js';
import type { HostRunner } from './host-runner.js';
import { readParts } from './parts.js';

const SSH_PORT = 22;

/** Null for a VM without a network, and while nobody knows. */
export async function findSsh({ mac, directory }: VmHandle, host: HostRunner): Promise<Endpoint | null> {
  if (mac === null) return null;
  const given = (await readParts(directory))?.address ?? null;
  const heard = async () =>
    host.look(['arp', '-an']).then(
      ({ stdout }) => findInArp(stdout, mac),
      () => null,
    );
  const address = given ?? (await heard());
  return address === null ? null : { host: address, port: SSH_PORT };
}

/** The first IPv4 address that a network-config gives to a card, such as `addresses: [10.0.0.5/24]`. */
export function staticAddress(networkConfig: string | null): string | null {
  const lines = (networkConfig ?? '').split('\n').map((line) => line.replace(/(?:^|\s)#.*$/, ''));
  const start = lines.findIndex((line) => /^\s*(?:-\s*)?(?:addresses|address)\s*:/.test(line));
  if (start < 0) return null;
  // A route has a prefix too, and comes after the addresses.
  const [, rest = ''] = (lines[start] ?? '').split(/:(.*)/s);
  const block = [rest, ...takeItems(lines.slice(start + 1))].join('\n');
  return /\b((?:\d{1,3}\.){3}\d{1,3})(?:\/\d{1,2})?\b/.exec(block)?.[1] ?? null;
}

function takeItems(lines: readonly string[]): readonly string[] {
  const end = lines.findIndex((line) => line.trim() !== '' && !/^\s*(?:-|\]|["'\d])/.test(line));
  return end < 0 ? lines : lines.slice(0, end);
}
