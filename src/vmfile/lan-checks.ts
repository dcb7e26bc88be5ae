/** The rules of `lan`: addresses that the LAN has and nobody else, and names that its VMs can be told apart by. */
import type { VmDefinition } from '../model/definition.js';
import { LAN_SIZE, lanAddressProblem, peerVariable } from '../model/lan.js';
import type { Located } from '../model/source.js';
import type { Findings } from './diagnostic.js';
import { isGroup } from './groups.js';
import { type LanMembership, membersByLan } from './lans.js';

/** Reports addresses that are none of a LAN, or of two VMs, and names that are those of two. */
export function checkLans(vms: readonly VmDefinition[], findings: Findings): void {
  for (const [name, members] of membersByLan(vms)) {
    for (const member of firstOfEach(members)) {
      checkAddress(name, member, findings);
      checkReach(name, member, findings);
    }
    checkSize(name, members, findings);
    checkSameAddress(members, findings);
    checkSameVariable(name, members, findings);
    checkSameHostname(name, members, findings);
  }
}

/** One VM of each declaration: what is said of a group is said once. */
function firstOfEach(members: readonly LanMembership[]): readonly LanMembership[] {
  return [...new Map(members.toReversed().map((member) => [member.declaration, member])).values()].toReversed();
}

function checkAddress(name: string, { declaration, lan }: LanMembership, findings: Findings): void {
  const declared = lan.value.address;
  if (declared === undefined) return;
  const problem = lanAddressProblem(declared.value);
  if (problem !== null) {
    findings.error({
      code: 'invalid-value',
      message: `"${declaration.name.value}" cannot have the address ${declared.value} on LAN "${name}": ${problem}`,
      span: declared.span,
      hint: 'take one from 10.77.0.1 to 10.77.0.254, or leave `address` out',
    });
  }
  if (!isGroup(declaration) || declaration.count === undefined) return;
  findings.error({
    code: 'conflict',
    message: `the address ${declared.value} can belong to one VM only`,
    span: declared.span,
    labels: [{ span: declaration.count.span, text: `there are ${declaration.count.value} of them` }],
    hint: 'leave `address` out: each gets one by its place',
  });
}

function checkSize(name: string, members: readonly LanMembership[], findings: Findings): void {
  for (const { vm, declaration, lan } of firstOfEach(members.filter(({ address }) => address === null))) {
    findings.error({
      code: 'out-of-range',
      message: `LAN "${name}" has no address left for "${vm}": it has room for ${LAN_SIZE} VMs`,
      span: isGroup(declaration) ? (declaration.count?.span ?? lan.span) : lan.span,
      hint: 'put some of the VMs on a LAN of another name',
    });
  }
}

/** Names are written over SSH; an address comes with the seed, or over SSH as well. */
function checkReach(name: string, { declaration, lan }: LanMembership, findings: Findings): void {
  if (declaration.ssh !== undefined) return;
  const hasSeed = declaration.cloudInit !== undefined;
  const lacks = hasSeed ? 'no names of the others' : 'neither an address on it nor the names of the others';
  findings.warning({
    code: 'missing',
    message: `"${declaration.name.value}" is on LAN "${name}" and has no \`ssh\` block: it gets ${lacks}`,
    span: lan.span,
    hint: 'add one, for example: ssh { user "debian" }',
  });
}

function checkSameAddress(members: readonly LanMembership[], findings: Findings): void {
  const seen = new Map<string, LanMembership>();
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
      message: `${member.address} is the address of "${first.vm}" and of "${member.vm}"`,
      span: wrong.lan.value.address?.span ?? wrong.lan.span,
      labels: [
        {
          span: other.lan.value.address?.span ?? other.lan.span,
          text: `"${other.vm}" has it ${isDeclared ? 'from here' : 'by its place among those on this LAN'}`,
        },
      ],
      hint: 'take another one: vmctl itself gives nobody those from 10.77.0.1 to 10.77.0.10',
    });
  }
}

function checkSameVariable(name: string, members: readonly LanMembership[], findings: Findings): void {
  const seen = new Map<string, LanMembership>();
  for (const member of members) {
    const variable = peerVariable(member.vm);
    const first = seen.get(variable);
    seen.set(variable, first ?? member);
    // Two VMs of exactly one name are reported as that.
    if (first === undefined || first.vm === member.vm) continue;
    findings.error({
      code: 'conflict',
      message: `"${first.vm}" and "${member.vm}" are both ${variable} to the others on LAN "${name}"`,
      span: member.declaration.name.span,
      labels: [{ span: first.declaration.name.span, text: 'the first one' }],
      hint: 'give one of them another name',
    });
  }
}

function checkSameHostname(name: string, members: readonly LanMembership[], findings: Findings): void {
  const all = members.flatMap(({ vm, names }) => names.map((located, i) => ({ vm, located, isVmName: i === 0 })));
  const seen = new Map<string, (typeof all)[number]>();
  for (const one of all) {
    const key = one.located.value.toLowerCase();
    const first = seen.get(key);
    seen.set(key, first ?? one);
    // Names of VMs that are the same, or differ in nothing but case, are reported elsewhere.
    if (first === undefined || (first.isVmName && one.isVmName)) continue;
    const [wrong, other]: readonly (typeof one)[] = one.isVmName ? [first, one] : [one, first];
    if (wrong === undefined || other === undefined) continue;
    reportSameHostname(name, { wrong, other, both: [first.vm, one.vm] }, findings);
  }
}

interface Claim {
  readonly vm: string;
  readonly located: Located<string>;
}

function reportSameHostname(
  name: string,
  { wrong, other, both }: { readonly wrong: Claim; readonly other: Claim; readonly both: readonly [string, string] },
  findings: Findings,
): void {
  findings.error({
    code: 'duplicate',
    message: `"${wrong.located.value}" is the name of "${both[0]}" and of "${both[1]}" on LAN "${name}"`,
    span: wrong.located.span,
    labels: [{ span: other.located.span, text: `"${other.vm}" has it from here` }],
    hint: 'give every VM on a LAN a host name of its own',
  });
}
