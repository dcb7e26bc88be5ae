/** Frozen VMs that are to go: more than their budget, long unused, broken, or left half-made by killed processes. */
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { VmctlError } from '../src/errors.js';
import { FROZEN_FILES } from '../src/hypervisor/hypervisor.js';
import { withLock } from '../src/util/lock.js';
import { type DoomedFrozen, type WarmPolicy, chooseFrozen } from '../src/warm/policy.js';
import { type FrozenVm, listFrozen, removeFrozen } from '../src/warm/store.js';
import type { TaskEnvironment } from './context.js';
import { type ImageUse, findImageUse, usersOf } from './image-use.js';

type World = Pick<TaskEnvironment, 'paths' | 'registry'>;
type Collector = World & Pick<TaskEnvironment, 'command'>;

/** A frozen VM, and the VMs whose disks stand on it. */
export type FrozenUse = FrozenVm & { readonly users: readonly string[] };

export async function frozenFacts(env: World, given?: ImageUse): Promise<readonly FrozenUse[]> {
  const use = given ?? (await findImageUse(env));
  return Promise.all(
    (await listFrozen(env.paths)).map(async (frozen) => ({
      ...frozen,
      users: await usersOf(use, join(frozen.folder, FROZEN_FILES.disk)),
    })),
  );
}

export type WarmLimits = Pick<WarmPolicy, 'olderThanSeconds' | 'budgetBytes'>;

/** Which would go; none while there are disks that do not tell what they stand on. */
export async function planWarmPrune(env: World, limits: WarmLimits): Promise<readonly DoomedFrozen[]> {
  const use = await findImageUse(env);
  if (use.unreadable.length > 0) return [];
  const all = (await frozenFacts(env, use)).map((frozen) => ({ ...frozen, broken: frozen.manifest === null }));
  return chooseFrozen(all, { ...limits, now: Date.now() });
}

/** Removes one unless somebody has begun to use it; gives whether it is gone. */
export async function removeUnused(env: Collector, key: string): Promise<boolean> {
  const { paths, command } = env;
  try {
    return await withLock(paths.frozenLock(key), { command, timeoutMs: 0 }, async () => {
      const use = await findImageUse(env);
      const users = await usersOf(use, join(paths.frozen(key), FROZEN_FILES.disk));
      if (users.length > 0 || use.unreadable.length > 0) return false;
      await removeFrozen(paths, key);
      return true;
    });
  } catch (error) {
    if (error instanceof VmctlError && error.code === 'LOCK_TIMEOUT') return false;
    throw error;
  }
}

/** Removes the rest of a killed process, unless a living one works on it; gives whether it is gone. */
export async function removeWarmRest(
  env: Pick<Collector, 'paths' | 'command'>,
  { key, path }: { readonly key: string; readonly path: string },
): Promise<boolean> {
  return withLock(env.paths.frozenLock(key), { command: env.command, timeoutMs: 0 }, async () => {
    await rm(path, { recursive: true, force: true });
    return true;
  });
}

/** After another one was frozen: those that were used longest ago go until all fit. The new one stays. */
export async function keepWithinBudget(env: Collector & Pick<TaskEnvironment, 'warm'>, newest: string): Promise<void> {
  const limits = { olderThanSeconds: null, budgetBytes: env.warm.budgetBytes };
  for (const { key } of await planWarmPrune(env, limits)) {
    if (key !== newest) await removeUnused(env, key);
  }
}
