/**
 * Which VMs are meant, by a person's words for them: one VM by its name, or all of a group (`vm "worker" count=4`) by
 * the group's.
 */
import { VmctlError } from '../src/errors.js';
import type { VmSpec } from '../src/model/spec.js';
import { didYouMean } from '../src/vmfile/suggest.js';

export interface Selection {
  /** In the file's order. */
  readonly specs: readonly VmSpec[];
  /** One for each name that the VMFile does not have. */
  readonly errors: readonly VmctlError[];
}

/** The VMs of these names; all when none is given. */
export function selectSpecs(specs: readonly VmSpec[], names: readonly string[]): Selection {
  if (names.length === 0) return { specs, errors: [] };
  const all = specs.map((spec) => ({ ...spec, group: spec.group?.name ?? null, spec }));
  const { vms, errors } = chooseByName(all, names, (name) => unknownVm(name, namesOf(all), 'the VMFile has no VM'));
  return { specs: vms.map(({ spec }) => spec), errors };
}

export interface SelectionWithDependencies extends Selection {
  /** Those of them that nobody named. */
  readonly added: readonly VmSpec[];
}

/** The chosen VMs and everything that they depend on. */
export function selectWithDependencies(specs: readonly VmSpec[], names: readonly string[]): SelectionWithDependencies {
  const { specs: chosen, errors } = selectSpecs(specs, names);
  const wanted = new Set(chosen.map(({ name }) => name));
  for (const name of wanted) {
    for (const dependency of specs.find((spec) => spec.name === name)?.dependsOn ?? []) wanted.add(dependency);
  }
  const all = specs.filter(({ name }) => wanted.has(name));
  return { specs: all, errors, added: all.filter((spec) => !chosen.includes(spec)) };
}

/** A VM as far as names go. */
export interface Named {
  readonly name: string;
  /** The name of its group, where it is one of several. */
  readonly group: string | null;
  readonly project: string | null;
}

/**
 * The VMs of this name or of this group; none where nothing is called so. A VM that has the name of a group is left
 * over from a time when the VMFile declared one: it belongs to what is meant.
 */
export function meantBy<T extends Named>(name: string, vms: readonly T[]): readonly T[] {
  const exact = vms.find((vm) => vm.name === name);
  const group = vms.filter((vm) => vm.group === name);
  if (exact !== undefined) return [exact, ...group.filter(({ project }) => project === exact.project)];
  const [owner, ...others] = new Set(group.map(({ project }) => project));
  if (owner === undefined || others.length === 0) return group;
  throw new VmctlError('USAGE', `several VMFiles have a group "${name}": ${[owner, ...others].join(', ')}`, {
    hint: `Name the VMs: ${group.map((vm) => vm.name).join(', ')}.`,
    fields: { vm: name },
  });
}

/** Everything that can be named: VMs, and groups before their first one. */
export function namesOf(vms: readonly Named[]): readonly string[] {
  return [...new Set(vms.flatMap(({ name, group }) => (group === null ? [name] : [group, name])))];
}

export interface NamedVms<T> {
  /** In the order in which they were given to choose from. */
  readonly vms: readonly T[];
  readonly errors: readonly VmctlError[];
}

/** The VMs that are meant, and what `unknown` makes of each name that means none. */
export function chooseByName<T extends Named>(
  all: readonly T[],
  names: readonly string[],
  unknown: (name: string) => VmctlError,
): NamedVms<T> {
  const chosen = new Set<T>();
  const errors: VmctlError[] = [];
  for (const name of new Set(names)) {
    try {
      const meant = meantBy(name, all);
      for (const vm of meant) chosen.add(vm);
      if (meant.length === 0) errors.push(unknown(name));
    } catch (error) {
      if (!(error instanceof VmctlError)) throw error;
      errors.push(error);
    }
  }
  return { vms: all.filter((vm) => chosen.has(vm)), errors };
}

/** The one VM of this name. Throws `USAGE` with the members where it is the name of a group, else `VM_NOT_FOUND`. */
export function oneByName<T extends Named>(all: readonly T[], name: string): T {
  const exact = all.find((vm) => vm.name === name);
  if (exact !== undefined) return exact;
  const members = all.filter((vm) => vm.group === name).map((vm) => vm.name);
  if (members.length > 0) throw severalVms(name, members);
  throw unknownVm(name, namesOf(all), 'there is no VM');
}

/** For the name of a group where one VM is needed. */
export function severalVms(name: string, members: readonly string[]): VmctlError {
  const count = members.length === 1 ? 'a group of VMs' : `${members.length} VMs`;
  return new VmctlError('USAGE', `"${name}" is ${count}, and one is needed`, {
    hint: `Name it: ${members.join(', ')}.`,
    fields: { vm: name },
  });
}

/** `VM_NOT_FOUND` with names that are near. */
export function unknownVm(name: string, names: readonly string[], what: string): VmctlError {
  const hint =
    didYouMean(name, names, '"') ??
    (names.length === 0 ? 'Which there are: vmctl list' : `There are: ${names.join(', ')}.`);
  return new VmctlError('VM_NOT_FOUND', `${what} "${name}"`, { hint, fields: { vm: name } });
}
