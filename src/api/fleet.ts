/** The object that `up` and `attach` give: the VMs by name, and their end. */
import { join } from 'node:path';
import type { TaskEnvironment } from '../../tasks/context.js';
import { oneByName, unknownVm } from '../../tasks/select-specs.js';
import { RUN_FILES } from '../paths.js';
import { writeFileAtomically } from '../util/fs.js';
import { forEachAtOnce } from '../util/parallel.js';
import { sshConfigBlock } from '../../tasks/ssh-login.js';
import { Machine } from './machine.js';
// Which names a fleet has is known to its caller's types alone: they are those that were asked for and looked up.
import type { AttachedFleet, AttachedFleetMembers, Fleet, FleetConnection } from './types.js';
import type { RunningVm } from './vm-types.js';
import { runningVm, vmConnection } from './vm.js';

/** So many VMs are looked at, or left, at a time. */
const AT_ONCE = 16;

/** Looks at the VMs of these names. Throws `VM_NOT_FOUND` for one that does not exist. */
export async function machinesOf(
  env: TaskEnvironment,
  names: readonly string[],
): Promise<ReadonlyMap<string, Machine>> {
  const entries = new Map((await env.registry.list()).map((entry) => [entry.name, entry]));
  const machines = names.map((name) => {
    const entry = entries.get(name);
    if (entry === undefined) throw unknownVm(name, [...entries.keys()], 'there is no VM');
    return new Machine(env, entry);
  });
  await forEachAtOnce(machines, { limit: AT_ONCE }, async (machine) => void (await machine.look()));
  return new Map(machines.map((machine) => [machine.name, machine]));
}

export function attachedFleet<N extends string>(
  env: TaskEnvironment,
  machines: ReadonlyMap<string, Machine>,
): AttachedFleet<N> {
  return withGroups(machines, Object.assign(Object.create(Object.prototype), vmsOf(machines), members(env, machines)));
}

/** `end` is called once, after the connections are closed. */
export function ownedFleet<N extends string>(
  env: TaskEnvironment,
  machines: ReadonlyMap<string, Machine>,
  end: () => Promise<void>,
): Fleet<N> {
  const common = members(env, machines);
  let ending: Promise<void> | null = null;
  const down = (): Promise<void> => {
    ending ??= closeAll(machines).then(end);
    return ending;
  };
  const own = { ...common, down, [Symbol.asyncDispose]: down };
  return withGroups(machines, Object.assign(Object.create(Object.prototype), vmsOf(machines), own));
}

/** The name of a group is that of no VM, and whoever takes it for one is told so at once. */
function withGroups<F extends object>(machines: ReadonlyMap<string, Machine>, fleet: F): F {
  const groups = new Set([...machines.values()].flatMap(({ entry }) => entry.group ?? []));
  for (const name of groups) {
    if (Object.hasOwn(fleet, name)) continue;
    Object.defineProperty(fleet, name, { get: () => oneOf(machines, name) });
  }
  return fleet;
}

function members(env: TaskEnvironment, machines: ReadonlyMap<string, Machine>): AttachedFleetMembers {
  const names = [...machines.keys()];
  return {
    names,
    get: (name) => runningVm(oneOf(machines, name)),
    group: (name) => {
      const found = [...machines.values()].filter(({ entry }) => entry.group === name);
      if (found.length === 0) throw unknownVm(name, names, 'there is no group');
      return found.map(runningVm);
    },
    stateDirectory: env.paths.root,
    toJSON: () => connectionTo(env, machines),
    [Symbol.asyncDispose]: () => closeAll(machines),
  };
}

function oneOf(machines: ReadonlyMap<string, Machine>, name: string): Machine {
  const { machine } = oneByName(
    [...machines.values()].map((one) => ({ ...one.entry, machine: one })),
    name,
  );
  return machine;
}

function vmsOf(machines: ReadonlyMap<string, Machine>): Record<string, RunningVm> {
  return Object.fromEntries([...machines].map(([name, machine]) => [name, runningVm(machine)]));
}

async function closeAll(machines: ReadonlyMap<string, Machine>): Promise<void> {
  await Promise.all([...machines.values()].map((machine) => machine.close()));
}

function connectionTo(env: TaskEnvironment, machines: ReadonlyMap<string, Machine>): FleetConnection {
  const vms = [...machines].map(([name, machine]) => [name, vmConnection(machine)] as const);
  return { schemaVersion: 1, stateDirectory: env.paths.root, vms: Object.fromEntries(vms) };
}

/** The paths of the files that tell another process of the VMs. */
export interface ConnectionFiles {
  /** Of the text that `attach` takes. */
  readonly connection: string;
  /** For `ssh -F`. */
  readonly sshConfig: string;
}

/** Writes how the VMs are reached into their state directory, for their owner alone. */
export async function writeConnection(
  env: TaskEnvironment,
  machines: ReadonlyMap<string, Machine>,
): Promise<ConnectionFiles> {
  const connection = join(env.paths.root, RUN_FILES.connection);
  const sshConfig = join(env.paths.root, RUN_FILES.sshConfig);
  const blocks = [...machines.values()].flatMap(({ login }) => (login === null ? [] : [sshConfigBlock(login)]));
  await writeFileAtomically(connection, `${JSON.stringify(connectionTo(env, machines), null, 2)}\n`);
  await writeFileAtomically(sshConfig, blocks.join('\n'));
  return { connection, sshConfig };
}
