/**
 * `vm "worker" count=4`: one declaration of four VMs, `worker-1` to `worker-4`. `count=1` is the same as none: one VM
 * that keeps the plain name, so that a number in a file can be turned down to it and nothing else changes.
 */
import type { VmDefinition } from '../model/definition.js';
import type { VmGroup } from '../model/spec.js';

/** A VM that a declaration makes. */
export interface Member {
  readonly name: string;
  readonly group: VmGroup | null;
}

export function isGroup({ count }: VmDefinition): boolean {
  return (count?.value ?? 1) > 1;
}

/** The VMs that a declaration makes. */
export function membersOf(vm: VmDefinition): readonly Member[] {
  const name = vm.name.value;
  if (!isGroup(vm)) return [{ name, group: null }];
  return Array.from({ length: vm.count?.value ?? 1 }, (_, at) => {
    const index = at + 1;
    return { name: `${name}-${index}`, group: { name, index } };
  });
}

/** The names that a declaration takes: those of its VMs, and its own, which means all of them. */
export function namesTaken(vm: VmDefinition): readonly string[] {
  const members = membersOf(vm).map(({ name }) => name);
  return isGroup(vm) ? [vm.name.value, ...members] : members;
}

/** What every name means: the declaration that takes it first. */
export function declarationsByName(vms: readonly VmDefinition[]): ReadonlyMap<string, VmDefinition> {
  const found = new Map<string, VmDefinition>();
  for (const vm of vms) for (const name of namesTaken(vm)) if (!found.has(name)) found.set(name, vm);
  return found;
}

/** The hostname that is declared for all of a group, told apart: `worker.example.org` is `worker-3.example.org`. */
export function memberHostname(hostname: string, group: VmGroup | null): string {
  if (group === null) return hostname;
  const [label = '', ...domain] = hostname.split('.');
  return [`${label}-${group.index}`, ...domain].join('.');
}
