/** Whether a VM that is to be made starts from a frozen one, and if not, why. */
import type { VmSpec } from '../src/model/spec.js';
import type { BaseImage } from '../src/model/vm.js';
import type { WarmOutlook } from '../src/model/warm.js';
import { type Components, differences, keyOf } from '../src/warm/key.js';
import { type Manifest, findDamage, readManifest } from '../src/warm/manifest.js';
import { listFrozen, removeFrozen } from '../src/warm/store.js';
import { exists } from '../src/util/fs.js';
import { withLock } from '../src/util/lock.js';
import type { TaskEnvironment } from './context.js';
import { kindOf, warmComponents } from './warm-key.js';
import { findImageUse, usersOf } from './image-use.js';
import { join } from 'node:path';
import { FROZEN_FILES } from '../src/hypervisor/hypervisor.js';

/** What there is for a VM under its key. */
export type WarmFinding = WarmOutlook & {
  /** Null where nothing is to be frozen either. */
  readonly key: string | null;
  readonly components: Components;
  /** Of the frozen VM; null where there is none. */
  readonly manifest: Manifest | null;
};

/** What a VM can start from. */
export interface UsableFrozen {
  readonly key: string;
  readonly manifest: Manifest;
}

/** How much of a VM can be kept, and why that is less than what was asked for. */
export type WarmReach = Pick<WarmOutlook, 'level' | 'less'>;

/** A flag or setting has the last word against it; where the VMFile says nothing, whoever brings the VM up decides. */
export function warmReach(env: Pick<TaskEnvironment, 'warm' | 'hypervisor'>, spec: VmSpec): WarmReach {
  const wanted = env.warm.cold ? 'off' : (spec.warm ?? env.warm.level);
  if (wanted === 'off') return { level: 'off', less: null };
  const { memorySnapshots } = env.hypervisor.capabilities;
  if (!memorySnapshots.supported) return { level: 'off', less: memorySnapshots.reason };
  if (!spec.ssh.declared || spec.network.kind === 'none') {
    // Nothing is provisioned in it, so there is nothing to save either.
    return { level: 'off', less: spec.warm === null ? null : 'it cannot be logged in to' };
  }
  if (spec.group !== null && spec.network.kind === 'tap') {
    return { level: 'off', less: 'all of its group would be on the network "tap" with one MAC address' };
  }
  if (wanted === 'memory' && spec.network.kind === 'tap') {
    return { level: 'disk', less: 'what it knows of its network "tap" does not last' };
  }
  return { level: wanted, less: null };
}

/** Looks under the VM's key. `image` is null where it is not on this host yet. */
export async function lookUpWarm(env: TaskEnvironment, spec: VmSpec, image: BaseImage | null): Promise<WarmFinding> {
  const { level, less } = warmReach(env, spec);
  const nothing = { level, less, hit: false, key: null, components: {}, manifest: null };
  if (level === 'off') return { ...nothing, reason: less ?? (env.warm.cold ? 'asked for' : 'off') };
  if (image === null) return { ...nothing, reason: 'its image is not on this host yet' };
  const components = await warmComponents(env, { spec, image, level });
  if (components === null) return { ...nothing, reason: 'a file that it needs cannot be read' };
  const key = keyOf(components);
  const folder = env.paths.frozen(key);
  const manifest = await readManifest(folder);
  const damage = manifest === null ? null : await findDamage(folder, manifest);
  if (manifest !== null && damage === null) {
    return { level, less, hit: true, reason: `frozen ${manifest.frozenAt}`, key, components, manifest };
  }
  const there = await exists(folder);
  const broken = there ? `what was frozen is damaged: ${damage ?? 'its manifest is unreadable'}` : null;
  const reason = broken ?? (await missReason(env, spec, components));
  return { level, less, hit: false, reason, key, components, manifest: null };
}

/** Which part is another one than in the newest frozen VM of the same name and VMFile. */
async function missReason(env: TaskEnvironment, spec: VmSpec, components: Components): Promise<string> {
  const own = (await listFrozen(env.paths)).filter(
    ({ manifest }) => manifest?.project === spec.project && manifest.name === kindOf(spec),
  );
  const newest = own
    .flatMap(({ manifest }) => manifest ?? [])
    .toSorted((a, b) => (a.frozenAt < b.frozenAt ? 1 : -1))[0];
  if (newest === undefined) return 'nothing was frozen yet';
  const names = differences(newest.components, components);
  return `changed since it was frozen: ${names.join(', ')}`;
}

/** Removes what could not be used, unless VMs stand on its disk. */
export async function clearBroken(env: TaskEnvironment, key: string): Promise<void> {
  const { paths, command, signal } = env;
  await withLock(paths.frozenLock(key), { command, signal }, () => removeUnlessUsed(env, key));
}

/** Whether something can be frozen under a key, whose lock the caller holds; what is damaged there goes. */
export async function makeRoom(env: TaskEnvironment, key: string): Promise<'free' | 'taken' | 'in use'> {
  const folder = env.paths.frozen(key);
  if (!(await exists(folder))) return 'free';
  const manifest = await readManifest(folder);
  if (manifest !== null && (await findDamage(folder, manifest)) === null) return 'taken';
  return (await removeUnlessUsed(env, key)) ? 'free' : 'in use';
}

async function removeUnlessUsed(env: TaskEnvironment, key: string): Promise<boolean> {
  const use = await findImageUse(env);
  const users = await usersOf(use, join(env.paths.frozen(key), FROZEN_FILES.disk));
  if (users.length > 0 || use.unreadable.length > 0) return false;
  await removeFrozen(env.paths, key);
  return true;
}
