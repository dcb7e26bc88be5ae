/** A VM goes on from a frozen one: it is started from it, and told what it cannot know. */
import { rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { VmctlError } from '../src/errors.js';
import { FROZEN_FILES, type StartMode } from '../src/hypervisor/hypervisor.js';
import type { StageContext } from '../src/model/event.js';
import { lanOf } from '../src/model/lan.js';
import type { Forward, VmSpec } from '../src/model/spec.js';
import type { Nic, RunningVm, StoppedVm, VmHandle } from '../src/model/vm.js';
import { VM_FILES } from '../src/paths.js';
import { hasStepsForEach } from '../src/provision/step-plan.js';
import { type RegistryEntry, recordText } from '../src/registry.js';
import { withLock } from '../src/util/lock.js';
import { type Manifest, findDamage, readManifest } from '../src/warm/manifest.js';
import { findSnapshotByDisk } from '../src/warm/snapshots.js';
import { findByDisk, noteUse } from '../src/warm/store.js';
import type { TaskEnvironment } from './context.js';
import { forgetEnd } from './forget-end.js';
import { type ChosenIdentity, chooseIdentity, giveChosenIdentity, pinnedKey } from './identity.js';
import { connectWhenReady, rejoinLan, verifyWhenReady } from './provision.js';
import { settleAtPort, settleMemory } from './settle-restored.js';
import { recordFreshStart } from './start.js';
import type { UsableFrozen } from './warm-lookup.js';

export interface RestoreJob {
  readonly stopped: StoppedVm;
  readonly entry: RegistryEntry;
  /** What is declared now, for the login. */
  readonly spec: VmSpec;
  readonly key: string;
  readonly level: 'memory' | 'disk';
  /** Ports of this host that it had before and is to have again. */
  readonly forwards?: readonly Forward[];
}

/**
 * The files of a VM that starts from a frozen one. Under the key's lock, so that this one is not removed before it can be
 * seen that a VM stands on it. Throws `VM_DAMAGED` where its files are not what they were.
 */
export async function prepareFrozenVm(
  env: TaskEnvironment,
  spec: VmSpec,
  { key, manifest }: UsableFrozen,
  context: StageContext,
): Promise<VmHandle> {
  const { paths, hypervisor, registry, command } = env;
  const folder = paths.frozen(key);
  return withLock(paths.frozenLock(key), { command, signal: context.signal }, async () => {
    const damage = await findDamage(folder, manifest);
    if (damage !== null) throw new VmctlError('VM_DAMAGED', `what was frozen is damaged: ${damage}`);
    const { name } = spec;
    // From its beginning: one that was killed before it went on is no VM to boot, with another one's name and keys.
    const record = recordText({ warm: { key, settled: false } });
    const places = { directory: paths.vm(name), staging: paths.vmStaging(name), durable: paths.durable, record };
    const handle = await hypervisor.prepareFrozen(spec, folder, places, context);
    await registry.add(handle);
    return handle;
  });
}

/**
 * Starts the VM, whose disk stands on that of the frozen one, and gives it when it has shown the pinned host key
 * and is itself. Until then its record says that it is not to be used. Throws what keeps it from that; the VM may be running.
 */
export async function restoreVm(env: TaskEnvironment, job: RestoreJob, context: StageContext): Promise<RunningVm> {
  const { stopped, entry, key, spec, level } = job;
  const folder = env.paths.frozen(key);
  await env.hypervisor.checkDisk(stopped.handle);
  await forgetEnd(stopped.handle);
  const { handle } = stopped;
  const manifest = await readManifest(folder);
  await recordFreshStart(env, { entry, handle, frozen: level === 'memory' ? key : null });
  await env.registry.updateRecord(entry, { warm: { key, settled: false } });
  const identity = manifest === null ? null : await identityOf(env, manifest, job);
  const started = await env.hypervisor.start(stopped, context, startMode(folder, job, identity));
  const listens = level === 'memory' && manifest?.listens === true;
  const vm = await settle(env, started, { ...job, identity, listens }, context);
  await noteUse(folder);
  const provisioning = hasStepsForEach(spec) ? 'pending' : 'done';
  await env.registry.updateRecord(entry, { provisioning, warm: { key, settled: true }, lastFailure: null });
  return vm;
}

/** What makes it a machine of its own, where it is one of several; null for any other, and where there is no guest. */
async function identityOf(
  env: TaskEnvironment,
  { hostname, mac, lanAddress, key }: Manifest,
  { stopped, spec, level }: RestoreJob,
): Promise<ChosenIdentity | null> {
  const { handle } = stopped;
  if (spec.group === null || !env.hypervisor.capabilitiesOf(handle).guestAccess.supported) return null;
  const publicKey = await pinnedKey(join(env.paths.frozen(key), VM_FILES.knownHosts));
  const own = {
    hostname: spec.cloudInit?.hostname ?? spec.name,
    // Where it boots, its card has the frozen one's address, as its configuration has it.
    mac: level === 'memory' ? handle.mac : mac,
    lanAddress: lanOf(handle.spec)?.address ?? null,
  };
  return chooseIdentity(handle, own, { hostname, mac, lanAddress, publicKey });
}

function startMode(folder: string, { level, forwards }: RestoreJob, identity: ChosenIdentity | null): StartMode {
  if (level === 'disk') return { kind: 'boot' };
  const saved = { state: join(folder, FROZEN_FILES.state), memory: join(folder, FROZEN_FILES.memory) };
  // On the LAN there may be the one whose addresses it still has.
  const movesOnLan = identity !== null && identity.own.lanAddress !== identity.former.lanAddress;
  const unplugged: readonly Nic[] = movesOnLan ? ['lan'] : [];
  return { kind: 'restore', saved, unplugged, ...(forwards === undefined ? {} : { forwards }) };
}

async function settle(
  env: TaskEnvironment,
  vm: RunningVm,
  job: RestoreJob & {
    readonly identity: ChosenIdentity | null;
    /** A program waits at its port for what it has to be told. */
    readonly listens: boolean;
  },
  context: StageContext,
): Promise<RunningVm> {
  if (!env.hypervisor.capabilitiesOf(vm.handle).guestAccess.supported) return vm;
  const { level, spec, entry, identity, listens } = job;
  // First of all, so that the keys of the first login are drawn from new random numbers.
  const settled = listens && (await settleAtPort(env, vm, context));
  const waited = { spec, goesOn: level === 'memory' };
  const isOnLan = lanOf(vm.handle.spec) !== null;
  // Its login worked when it was frozen: where nothing has to be done in it, it only has to show who it is.
  if (settled && identity === null && !isOnLan) {
    await verifyWhenReady(env, vm, waited, context);
    return vm;
  }
  await using connection = await connectWhenReady(env, vm, waited, context);
  const problem = level === 'memory' && !settled ? await settleMemory(connection, context) : null;
  if (problem !== null) {
    throw new VmctlError('PROVISION_FAILED', `VM "${vm.handle.name}" cannot go on from saved memory: ${problem}`, {
      fields: { vm: vm.handle.name },
    });
  }
  if (identity === null) {
    await rejoinLan(env, { vm, entry, spec, connection }, context);
    return vm;
  }
  await giveChosenIdentity(vm.handle, identity, connection, context);
  if (!isOnLan) {
    await verifyWhenReady(env, vm, waited, context);
    return vm;
  }
  await using own = await connectWhenReady(env, vm, waited, context);
  const plugged = await plugIn(env, vm, context);
  await rejoinLan(env, { vm: plugged, entry, spec, connection: own }, context);
  return plugged;
}

/** On its LAN it is itself by now. */
async function plugIn(env: TaskEnvironment, vm: RunningVm, context: StageContext): Promise<RunningVm> {
  for (const nic of vm.unplugged) await env.hypervisor.setLink(vm, { nic, up: true }, context);
  return { ...vm, unplugged: [] };
}

/**
 * Before a VM's disk is written again: one that was frozen while its VM was about to go on with another is only read.
 * A vmctl was killed in the middle of that. Where what it froze is complete, the VM gets a disk that stands on it; where
 * it is not, that goes, and the disk is the VM's own again. The caller holds the VM's lock, as that vmctl did.
 */
export async function settleFrozen(env: TaskEnvironment, vm: StoppedVm, context: StageContext): Promise<StoppedVm> {
  const frozen = await frozenDiskOf(env, vm.handle);
  if (frozen === null) return vm;
  if (frozen.complete) return env.hypervisor.branch(vm, frozen.path, context);
  await rm(frozen.path, { recursive: true, force: true });
  return vm;
}

/** A disk that is in another folder too was frozen; somebody's own copy by a link is none of ours. */
async function frozenDiskOf(env: TaskEnvironment, handle: VmHandle) {
  const { directory } = handle;
  const disk = await stat(join(directory, VM_FILES.overlay)).catch(() => null);
  return disk === null || disk.nlink < 2
    ? null
    : ((await findSnapshotByDisk(handle, disk.ino)) ?? (await findByDisk(env.paths, disk.ino)));
}
