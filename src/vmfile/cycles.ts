/** Circles in `depends-on`. */
import type { VmDefinition } from '../model/definition.js';
import type { Span } from '../model/source.js';
import { declarationsByName } from './groups.js';

/** One dependency: who waits for whom, and where that is written. */
export interface Dependency {
  readonly from: string;
  readonly to: string;
  readonly place: Span;
}

/**
 * Circles of dependencies, each from the dependency that is written first, no two with the same first one. A
 * dependency that is part of several circles is shown in one of them.
 */
export function findCycles(vms: readonly VmDefinition[]): readonly (readonly Dependency[])[] {
  // The VMs of a group wait for the same ones, so who waits for one of them is in no other circle than for all.
  const declared = declarationsByName(vms);
  const byName = new Map(vms.map((vm) => [vm.name.value, dependenciesOf(vm, declared)]));
  const done = new Set<string>();
  const cycles: (readonly Dependency[])[] = [];
  for (const vm of vms) walk(vm.name.value);
  return cycles;

  /** Depth first, without recursion: a chain may be as long as the file. */
  function walk(start: string): void {
    const trail: Dependency[] = [];
    const open: { readonly name: string; next: number }[] = [{ name: start, next: 0 }];
    for (let top = open.at(-1); top !== undefined; top = open.at(-1)) {
      const dependency = done.has(top.name) ? undefined : byName.get(top.name)?.[top.next];
      top.next += 1;
      if (dependency === undefined) {
        done.add(top.name);
        open.pop();
        trail.pop();
        continue;
      }
      const at = open.findIndex((step) => step.name === dependency.to);
      if (at !== -1) {
        cycles.push(fromFirstWritten([...trail.slice(at), dependency]));
        continue;
      }
      trail.push(dependency);
      open.push({ name: dependency.to, next: 0 });
    }
  }
}

function dependenciesOf(vm: VmDefinition, declared: ReadonlyMap<string, VmDefinition>): readonly Dependency[] {
  return vm.dependsOn.map(({ value, span }) => ({
    from: vm.name.value,
    to: declared.get(value)?.name.value ?? value,
    place: span,
  }));
}

function fromFirstWritten(cycle: readonly Dependency[]): readonly Dependency[] {
  const starts = cycle.map((step) => step.place.start);
  const first = starts.indexOf(Math.min(...starts));
  return [...cycle.slice(first), ...cycle.slice(0, first)];
}
