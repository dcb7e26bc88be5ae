/** The LANs of a VMFile: who is on which, at which address, and what is wrong with that. */
import type { LanDeclaration, VmDefinition } from '../model/definition.js';
import { LAN_SIZE, lanAddressAt, lanAddressProblem, peerVariable } from '../model/lan.js';
import type { Located } from '../model/source.js';
import type { LanSpec } from '../model/spec.js';
import type { Findings } from './diagnostic.js';

interface Member {
  readonly vm: VmDefinition;
  readonly lan: Located<LanDeclaration>;
  /** As declared, else by its place among the LAN's members; null where there is none left. */
  readonly address: string | null;
}

/** The members of each LAN, by its name, in the order of the file. */
export type Lans = ReadonlyMap<string, readonly Member[]>;

/** Gives everybody an address. The VMs are those that are made: `count` is spelt out already. */
export function lansOf(vms: readonly VmDefinition[]): Lans {
  const lans = new Map<string, Member[]>();
  for (const vm of vms) {
    const lan = lanOf(vm);
    if (lan === undefined) continue;
    const members = lans.get(lan.value.name) ?? [];
    lans.set(lan.value.name, members);
    members.push({ vm, lan, address: lan.value.address?.value ?? lanAddressAt(members.length) });
  }
  return lans;
}

function lanOf({ network }: VmDefinition): Located<LanDeclaration> | undefined {
  return network?.value.kind === 'user' ? network.value.lan : undefined;
}

/** Null for a VM that is on no LAN, or that had no address left. */
export function lanSpec(vm: VmDefinition, lans: Lans): LanSpec | null {
  const name = lanOf(vm)?.value.name;
  const members = name === undefined ? undefined : lans.get(name);
  const address = members?.find((member) => member.vm === vm)?.address ?? null;
  if (name === undefined || members === undefined || address === null) return null;
  const known = members.flatMap((member) =>
    member.address === null
      ? []
      : [{ vm: member.vm.name.value, address: member.address, names: namesOf(member).map(({ value }) => value) }],
  );
  return { name, address, members: known };
}

/** The VM's name, and its host name where that is another one. */
function namesOf({ vm }: Member): readonly Located<string>[] {
  const hostname = vm.cloudInit?.value.hostname;
  const isAnother = hostname !== undefined && hostname.value.toLowerCase() !== vm.name.value.toLowerCase();
  return isAnother ? [vm.name, hostname] : [vm.name];
}

/** Reports addresses that are none of a LAN, or of two members, and names that the members cannot be told apart by. */
export function checkLans(vms: readonly VmDefinition[], findings: Findings): void {
  for (const [name, members] of lansOf(vms)) {
    for (const member of members) {
      checkAddress(name, member, findings);
      checkReach(name, member, findings);
    }
    checkSameAddress(members, findings);
    checkSameVariable(name, members, findings);
    checkSameHostname(name, members, findings);
  }
}

function checkAddress(name: string, { vm, lan, address }: Member, findings: Findings): void {
  if (address === null) {
    findings.error({
      code: 'out-of-range',
      message: `LAN "${name}" has no address left for "${vm.name.value}": it has room for ${LAN_SIZE} VMs`,
      span: lan.span,
      hint: 'put some of the VMs on a LAN of another name',
    });
  }
  const declared = lan.value.address;
  const problem = declared === undefined ? null : lanAddressProblem(declared.value);
  if (declared === undefined || problem === null) return;
  findings.error({
    code: 'invalid-value',
    message: `"${vm.name.value}" cannot have the address ${declared.value} on LAN "${name}": ${problem}`,
    span: declared.span,
    hint: 'take one from 10.77.0.1 to 10.77.0.254, or leave `address` out',
  });
}

/** Names are written over SSH; an address comes with the seed, or over SSH as well. */
function checkReach(name: string, { vm, lan }: Member, findings: Findings): void {
  if (vm.ssh !== undefined) return;
  const lacks =
    vm.cloudInit === undefined ? 'neither an address on it nor the names of the others' : 'no names of the others';
  findings.warning({
    code: 'missing',
    message: `"${vm.name.value}" is on LAN "${name}" and has no \`ssh\` block: it gets ${lacks}`,
    span: lan.span,
    hint: 'add one, for example: ssh { user "debian" }',
  });
}

function checkSameAddress(members: readonly Member[], findings: Findings): void {
  const seen = new Map<string, Member>();
  for (const member of members) {
    if (member.address === null) continue;
    const first = seen.get(member.address);
    if (first === undefined) {
      seen.set(member.address, member);
      continue;
    }
    // The one that says so is the one to change: the other has what its place in the file gives it.
    const [wrong, other] = member.lan.value.address === undefined ? [first, member] : [member, first];
    const isDeclared = other.lan.value.address !== undefined;
    findings.error({
      code: 'duplicate',
      message: `${member.address} is the address of "${first.vm.name.value}" and of "${member.vm.name.value}"`,
      span: wrong.lan.value.address?.span ?? wrong.lan.span,
      labels: [
        {
          span: other.lan.value.address?.span ?? other.lan.span,
          text: `"${other.vm.name.value}" has it ${isDeclared ? 'from here' : 'by its place among those on this LAN'}`,
        },
      ],
      hint: 'take another one: vmctl itself gives nobody those from 10.77.0.1 to 10.77.0.10',
    });
  }
}

function checkSameVariable(name: string, members: readonly Member[], findings: Findings): void {
  const seen = new Map<string, VmDefinition>();
  for (const { vm } of members) {
    const variable = peerVariable(vm.name.value);
    const first = seen.get(variable);
    seen.set(variable, first ?? vm);
    // Two VMs of exactly one name are reported as that.
    if (first === undefined || first.name.value === vm.name.value) continue;
    findings.error({
      code: 'conflict',
      message: `"${first.name.value}" and "${vm.name.value}" are both ${variable} to the others on LAN "${name}"`,
      span: vm.name.span,
      labels: [{ span: first.name.span, text: 'the first one' }],
      hint: 'give one of them another name',
    });
  }
}

function checkSameHostname(name: string, members: readonly Member[], findings: Findings): void {
  const all = members.flatMap((member) => namesOf(member).map((located) => ({ vm: member.vm, located })));
  const seen = new Map<string, (typeof all)[number]>();
  for (const one of all) {
    const key = one.located.value.toLowerCase();
    const first = seen.get(key);
    seen.set(key, first ?? one);
    if (first === undefined) continue;
    // Names of VMs that differ in nothing but case are reported elsewhere.
    if (first.located === first.vm.name && one.located === one.vm.name) continue;
    const [wrong, other] = one.located === one.vm.name ? [first, one] : [one, first];
    findings.error({
      code: 'duplicate',
      message: `"${wrong.located.value}" is the name of "${first.vm.name.value}" and of "${one.vm.name.value}" on LAN "${name}"`,
      span: wrong.located.span,
      labels: [{ span: other.located.span, text: `"${other.vm.name.value}" has it from here` }],
      hint: 'give every VM on a LAN a host name of its own',
    });
  }
}
