/** The LANs of a VMFile: who is on which, and at which address. */
import type { LanDeclaration, VmDefinition } from '../model/definition.js';
import { lanAddressAt } from '../model/lan.js';
import type { Located } from '../model/source.js';
import type { LanSpec } from '../model/spec.js';
import { isGroup, memberHostname, membersOf } from './groups.js';

/** A VM on a LAN. */
export interface LanMembership {
  readonly vm: string;
  readonly declaration: VmDefinition;
  readonly lan: Located<LanDeclaration>;
  /** As declared, else by its place among the LAN's members; null where there is none left. */
  readonly address: string | null;
  /** The VM's name, and its host name where that is another one. */
  readonly names: readonly Located<string>[];
}

/** The members of each LAN, by its name, in the order of the file, every VM of a group by itself. */
export function membersByLan(vms: readonly VmDefinition[]): ReadonlyMap<string, readonly LanMembership[]> {
  const lans = new Map<string, LanMembership[]>();
  for (const declaration of vms) {
    const lan = lanOf(declaration);
    if (lan === undefined) continue;
    const members = lans.get(lan.value.name) ?? [];
    lans.set(lan.value.name, members);
    // One address for several VMs is a mistake, which is reported.
    const own = isGroup(declaration) ? undefined : lan.value.address?.value;
    for (const { name: vm, group } of membersOf(declaration)) {
      const { span } = declaration.name;
      const declared = declaration.cloudInit?.value.hostname;
      const hostname = declared === undefined ? vm : memberHostname(declared.value, group);
      const isAnother = declared !== undefined && hostname.toLowerCase() !== vm.toLowerCase();
      const names = [{ value: vm, span }, ...(isAnother ? [{ value: hostname, span: declared.span }] : [])];
      members.push({ vm, declaration, lan, names, address: own ?? lanAddressAt(members.length) });
    }
  }
  return lans;
}

function lanOf({ network }: VmDefinition): Located<LanDeclaration> | undefined {
  return network?.value.kind === 'user' ? network.value.lan : undefined;
}

/** The place of each VM that is on a LAN, by its name. */
export type Lans = ReadonlyMap<string, LanSpec>;

export function lansOf(vms: readonly VmDefinition[]): Lans {
  const places = new Map<string, LanSpec>();
  for (const [name, all] of membersByLan(vms)) {
    const members = all.flatMap(({ vm, address, names }) =>
      address === null ? [] : [{ vm, address, names: names.map(({ value }) => value) }],
    );
    for (const { vm, address } of members) places.set(vm, { name, address, members });
  }
  return places;
}
