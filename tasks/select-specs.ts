/** Which of the VMs that are declared are meant, by their names. */
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
  const known = specs.map(({ name }) => name);
  const unknown = [...new Set(names)].filter((name) => !known.includes(name));
  return {
    specs: specs.filter(({ name }) => names.includes(name)),
    errors: unknown.map((name) => unknownVm(name, known, 'the VMFile has no VM')),
  };
}

/** The chosen VMs and everything that they depend on. */
export function selectWithDependencies(specs: readonly VmSpec[], names: readonly string[]): Selection {
  const { specs: chosen, errors } = selectSpecs(specs, names);
  const wanted = new Set(chosen.map(({ name }) => name));
  for (const name of wanted) {
    for (const dependency of specs.find((spec) => spec.name === name)?.dependsOn ?? []) wanted.add(dependency);
  }
  return { specs: specs.filter(({ name }) => wanted.has(name)), errors };
}

/** `VM_NOT_FOUND` with names that are near. */
export function unknownVm(name: string, names: readonly string[], what: string): VmctlError {
  const hint =
    didYouMean(name, names, '"') ??
    (names.length === 0 ? 'Which there are: vmctl list' : `There are: ${names.join(', ')}.`);
  return new VmctlError('VM_NOT_FOUND', `${what} "${name}"`, { hint, fields: { vm: name } });
}
