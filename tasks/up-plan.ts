/** What `up` will do for a VM, decided from facts alone. */
import { isDeepStrictEqual } from 'node:util';
import type { VmSpec } from '../src/model/spec.js';
import type { ObservedVm } from '../src/model/vm.js';
import type { VmRecord } from '../src/registry.js';

export type UpAction =
  /** It does not exist: all five steps. */
  | { readonly kind: 'create' }
  /** It exists and is stopped: started, and provisioned again. */
  | { readonly kind: 'start' }
  /** It is suspended: its vCPUs go on, and what was left undone is done. */
  | { readonly kind: 'resume' }
  /** It runs, but its provisioning was not finished. */
  | { readonly kind: 'provision' }
  /** It runs and is as declared. */
  | { readonly kind: 'none' };

export interface UpFacts {
  /** Null: there is no such VM. */
  readonly observed: ObservedVm | null;
  readonly record: VmRecord | null;
}

export function decideUp({ observed, record }: UpFacts): UpAction {
  if (observed === null) return { kind: 'create' };
  if (observed.state === 'stopped') return { kind: 'start' };
  if (observed.state === 'suspended') return { kind: 'resume' };
  return record?.provisioning === 'done' ? { kind: 'none' } : { kind: 'provision' };
}

/** What can only change by making the VM anew: the field of the spec, and the node of the VMFile. */
const FIXED = [
  ['image', 'image'],
  ['vcpus', 'vcpus'],
  ['memoryMib', 'memory'],
  ['diskBytes', 'disk'],
  ['firmware', 'firmware'],
  ['network', 'network'],
  ['cloudInit', 'cloud-init'],
] as const satisfies readonly (readonly [keyof VmSpec, string])[];

/** The nodes whose values in the VMFile are no longer those that the VM was made with. */
export function changedNodes(made: VmSpec, declared: VmSpec): readonly string[] {
  return FIXED.filter(([field]) => !isDeepStrictEqual(made[field], declared[field])).map(([, node]) => node);
}
