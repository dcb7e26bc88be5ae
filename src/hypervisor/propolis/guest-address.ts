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

/**
 * The first IPv4 address that a network-config gives to a card (cloud-init documentation, "Networking config", versions
 * 1 and 2): with its prefix, or in version 1 beside a netmask. A name server's address has neither.
 */
export function staticAddress(networkConfig: string | null): string | null {
  const text = (networkConfig ?? '').replaceAll(/(^|\s)#.*$/gm, '$1');
  for (const [, value = ''] of text.matchAll(ADDRESSES)) {
    const found = new RegExp(`(${IPV4})/\\d{1,2}\\b`).exec(value)?.[1];
    if (found !== undefined) return found;
  }
  return WITH_NETMASK.exec(text)?.[1] ?? WITH_NETMASK_BEFORE.exec(text)?.[1] ?? null;
}

const IPV4 = String.raw`\b\d{1,3}(?:\.\d{1,3}){3}`;
/** `address: A`, `addresses: [A, B]`, or with items on lines of their own. */
const ADDRESSES = /\baddress(?:es)?["']?[ \t]*:[ \t]*(\[[^\]]*\]|[^\n[]+|(?:\n[ \t]*-[^\n]*)+)/g;
const WITH_NETMASK = new RegExp(`\\baddress:\\s*["']?(${IPV4})["']?\\s+netmask:`);
const WITH_NETMASK_BEFORE = new RegExp(`\\bnetmask:\\s*\\S+\\s+address:\\s*["']?(${IPV4})`);
