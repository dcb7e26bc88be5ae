/** The rules of `count`: names that nobody else has, and nothing that only one of several VMs can have. */
import type { VmDefinition } from '../model/definition.js';
import type { Findings } from './diagnostic.js';
import { isGroup, memberHostname, membersOf, namesTaken } from './groups.js';
import { hostname, vmName } from './names.js';

/** Reports names that are given twice, those that `count` makes included. */
export function checkNames(vms: readonly VmDefinition[], findings: Findings): void {
  const seen = new Map<string, { readonly name: string; readonly vm: VmDefinition }>();
  for (const vm of vms) {
    // Of two declarations that share many names, one is enough to know.
    const clashes = new Set<VmDefinition>();
    for (const name of namesTaken(vm)) {
      const first = seen.get(name.toLowerCase());
      if (first === undefined) seen.set(name.toLowerCase(), { name, vm });
      else if (!clashes.has(first.vm)) {
        clashes.add(first.vm);
        reportClash({ name, vm }, first, findings);
      }
    }
  }
}

interface Taken {
  readonly name: string;
  readonly vm: VmDefinition;
}

function reportClash(second: Taken, first: Taken, findings: Findings): void {
  const hint = 'give every VM a name of its own';
  const place = {
    span: second.vm.name.span,
    ...(isGroup(second.vm) && second.vm !== first.vm ? { label: membersText(second.vm) } : {}),
    labels: [{ span: first.vm.name.span, text: isGroup(first.vm) ? membersText(first.vm) : 'the first one' }],
  };
  if (first.name === second.name) {
    findings.error({ code: 'duplicate', message: `two VMs are called "${second.name}"`, ...place, hint });
  } else {
    // Two directories on Linux, one on macOS, and one host everywhere.
    const message = `the names "${first.name}" and "${second.name}" differ in letter case only`;
    findings.warning({ code: 'duplicate', message, ...place, hint });
  }
}

/** `its VMs are "worker-1" to "worker-4"` */
function membersText(vm: VmDefinition): string {
  const names = membersOf(vm).map(({ name }) => `"${name}"`);
  return `"${vm.name.value}" is ${names[0]} to ${names.at(-1)}`;
}

/** Reports what cannot be so for each VM of a group. */
export function checkGroup(vm: VmDefinition, findings: Findings): void {
  if (!isGroup(vm) || vm.count === undefined) return;
  const members = membersOf(vm);
  const last = members.at(-1);
  const label = { span: vm.count.span, text: `there are ${members.length} of them` };
  const reason = last === undefined ? null : vmName(last.name);
  if (last !== undefined && reason !== null) {
    const message = `"${last.name}" cannot be the name of a VM: ${reason}`;
    findings.error({
      code: 'invalid-value',
      message,
      span: vm.name.span,
      labels: [label],
      hint: 'give a shorter name',
    });
  }
  checkHostname(vm, findings);
  const network = vm.network?.value;
  for (const { value, span } of network?.kind === 'user' ? network.forwards : []) {
    if (value.host === 0) continue;
    findings.error({
      code: 'conflict',
      message: `port ${value.host} of this host can lead to one VM only`,
      span,
      labels: [label],
      hint: `take a free port for each, which \`vmctl status\` tells: forward 0 ${value.guest}`,
    });
  }
  if (network?.kind !== 'vnic') return;
  findings.error({
    code: 'conflict',
    message: `the VNIC "${network.vnic.value}" can belong to one VM only`,
    span: network.vnic.span,
    labels: [label],
    hint: 'write one `vm` for each, with a VNIC of its own',
  });
}

function checkHostname(vm: VmDefinition, findings: Findings): void {
  const declared = vm.cloudInit?.value.hostname;
  const last = membersOf(vm).at(-1);
  if (declared === undefined || last === undefined) return;
  const made = memberHostname(declared.value, last.group);
  const reason = hostname(made);
  if (reason === null) return;
  const message = `the hostname of "${last.name}" would be "${made}", but ${reason}`;
  findings.error({ code: 'invalid-value', message, span: declared.span, hint: 'give a shorter one' });
}
