/** What a VM's LAN is at this moment: what the VM was made with, and who else the VMFile has on it by now. */
import { VmctlError } from '../src/errors.js';
import { type LanIdentity, lanIdentity, lanOf, lanVariables } from '../src/model/lan.js';
import type { VmSpec } from '../src/model/spec.js';
import type { VmHandle } from '../src/model/vm.js';
import type { LanMembership } from '../src/provision/lan.js';
import type { TaskEnvironment } from './context.js';

export interface CurrentLan extends LanMembership {
  readonly identity: LanIdentity;
  /** For its provision steps. */
  readonly variables: Readonly<Record<string, string>>;
}

/** `declared` is what the VMFile says now. Null for a VM that was made without a LAN. */
export function currentLan({ spec: made }: VmHandle, declared: VmSpec): CurrentLan | null {
  const own = lanOf(made);
  if (own === null || made.network.kind !== 'user') return null;
  const others = lanOf(declared);
  const members = others?.name === own.name ? others.members : own.members;
  // Its card has the address that it was made with, whatever its place in the file would give it now.
  const known = members.map((member) => (member.vm === made.name ? { ...member, address: own.address } : member));
  const now = { name: made.name, network: { ...made.network, lan: { ...own, members: known } } };
  const identity = lanIdentity(now);
  if (identity === null) return null;
  const configured = made.cloudInit?.networkConfig === null ? 'seed' : 'own';
  const card = made.cloudInit === null ? 'nobody' : configured;
  return { name: made.name, lan: own.name, identity, card, variables: lanVariables(now) };
}

/**
 * Throws `VM_STATE` when the address that a new VM is to have is still that of another one, which was made when its
 * place in the file gave it that address. VMs in `leaving` are made anew as well.
 */
export async function assertAddressIsFree(
  { registry }: TaskEnvironment,
  spec: VmSpec,
  leaving: (name: string) => boolean,
): Promise<void> {
  const lan = lanOf(spec);
  if (lan === null) return;
  const others = (await registry.list()).filter(
    ({ name, project }) => project === spec.project && name !== spec.name && !leaving(name),
  );
  for (const entry of others) {
    const made = await registry.handle(entry).catch(() => null);
    const taken = made === null ? null : lanOf(made.spec);
    if (taken?.name !== lan.name || taken.address !== lan.address) continue;
    throw new VmctlError(
      'VM_STATE',
      `VM "${spec.name}" is to be ${lan.address} on LAN "${lan.name}", which "${entry.name}" is still`,
      {
        hint: `Its place in the VMFile has changed: run vmctl reload ${entry.name}, or declare new VMs behind the others.`,
        fields: { vm: spec.name, other: entry.name, address: lan.address },
      },
    );
  }
}
