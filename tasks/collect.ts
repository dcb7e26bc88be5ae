/** Removes garbage: each piece under the locks that guard it, and looked at once more there. */
import { lstat, readdir, rename, rm } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { VmctlError, toVmctlError } from '../src/errors.js';
import type { CachedImage } from '../src/image/cache-index.js';
import { removeImage, removeRest } from '../src/image/cache-rests.js';
import { removeRun } from '../src/lifetime/run.js';
import { errorCode } from '../src/util/fs.js';
import { lockOwner, withLock } from '../src/util/lock.js';
import type { TaskEnvironment } from './context.js';
import { type DoomedImage, type ImagePolicy, chooseImages } from './image-policy.js';
import { findImageUse, imageFacts, statesOnImages, usersOf } from './image-use.js';
import { removeUnused, removeWarmRest } from './warm-collect.js';
import {
  type Garbage,
  type Leftovers,
  type Trouble,
  examineDirectory,
  findLeftovers,
  judgeDirectory,
} from './leftovers.js';

/** What may be removed of the images that are complete. */
export type ImageLimits = Pick<ImagePolicy, 'olderThanSeconds' | 'budgetBytes'>;

export interface CollectionScope {
  /** `images` leaves out everything but the image cache. */
  readonly scope: 'all' | 'images';
  /** True: VMs of programs that are over go, also those that were to stay. */
  readonly kept: boolean;
}

export type Collectable = Garbage | ({ readonly kind: 'image' } & DoomedImage);

export interface CollectionPlan {
  readonly items: readonly Collectable[];
  readonly troubles: readonly Trouble[];
  /** Bytes by which the image cache stays over its budget. */
  readonly overBudgetBytes: number;
  /** Where images were to go: disks that do not tell which one they stand on. While there are any, no image goes. */
  readonly unreadable: readonly string[];
}

type World = Pick<TaskEnvironment, 'paths' | 'registry' | 'hypervisor' | 'command' | 'signal'>;

/** Finds what is to go; changes nothing. */
export async function planCollection(
  env: World,
  limits: ImageLimits,
  { scope, kept }: CollectionScope,
): Promise<CollectionPlan> {
  // Who prunes images wants the space of downloads that were broken off, too.
  const leftovers: Leftovers = await findLeftovers(env, scope === 'all' ? { kept } : { kept, partialLifetimeMs: 0 });
  const garbage = leftovers.garbage.filter(({ kind }) => scope === 'all' || kind === 'download rest');
  const troubles = scope === 'all' ? leftovers.troubles : [];
  const use = await findImageUse(env);
  const isWanted = limits.olderThanSeconds !== null || limits.budgetBytes !== null;
  const unreadable = isWanted ? use.unreadable : [];
  if (!isWanted || unreadable.length > 0) return { items: garbage, troubles, overBudgetBytes: 0, unreadable };
  const { doomed, overBudgetBytes } = chooseImages(await imageFacts(env), await policyNow(env, limits));
  const items = [...garbage, ...doomed.map((image) => ({ kind: 'image' as const, ...image }))];
  return { items, troubles, overBudgetBytes, unreadable: [] };
}

async function policyNow(env: World, limits: ImageLimits): Promise<ImagePolicy> {
  const times: number[] = [];
  for (const { paths } of await statesOnImages(env)) {
    const since = await busySince(paths.locks);
    if (since !== null) times.push(since);
  }
  return { ...limits, now: Date.now(), busySince: times.length === 0 ? null : Math.min(...times) };
}

/** When the first of the VM locks that are held was taken; null when none is. */
async function busySince(locks: string): Promise<number | null> {
  const names = await readdir(locks).catch(() => []);
  const times: number[] = [];
  for (const name of names.filter((one) => one.startsWith('vm-') && one.endsWith('.lock'))) {
    const path = join(locks, name);
    if ((await lockOwner(path)) === null) continue;
    const facts = await lstat(path).catch(() => null);
    if (facts !== null) times.push(facts.mtimeMs);
  }
  return times.length === 0 ? null : Math.min(...times);
}

/** How the removal of one thing ended; `kept` is for what turned out to be needed after all. */
export type Removal =
  | { readonly result: 'removed' | 'kept' }
  | { readonly result: 'failed'; readonly error: VmctlError };

/** Removes one thing; its failure is data, so that the others still go. */
export async function collect(env: World, item: Collectable): Promise<Removal> {
  try {
    if (env.signal.aborted) throw new VmctlError('ABORTED', 'interrupted');
    return { result: (await remove(env, item)) ? 'removed' : 'kept' };
  } catch (thrown) {
    const error = removalError(item.path, thrown);
    // Somebody has begun to work with it meanwhile.
    return error.code === 'LOCK_TIMEOUT' ? { result: 'kept' } : { result: 'failed', error };
  }
}

function removalError(path: string, thrown: unknown): VmctlError {
  const isOfSystem = thrown instanceof Error && !(thrown instanceof VmctlError) && errorCode(thrown) !== null;
  if (!isOfSystem) return toVmctlError(thrown);
  return new VmctlError('STATE_DIRECTORY', `cannot remove ${path}: ${thrown.message}`, {
    cause: thrown,
    hint: 'Check who owns it and its permissions.',
    fields: { path },
  });
}

async function remove(env: World, item: Collectable): Promise<boolean> {
  const { command, paths } = env;
  const now = { command, timeoutMs: 0 };
  const cache = { directory: paths.images, command };
  switch (item.kind) {
    case 'VM rest':
      return removeVmRest(env, item);
    case 'registry entry':
      return withLock(paths.vmLock(item.vm), now, async () => {
        if (!(await env.registry.look()).gone.includes(item.vm)) return false;
        await env.registry.remove(item.vm);
        return !(await env.registry.look()).gone.includes(item.vm);
      });
    case 'run':
      return removeRun(env.paths, item.run, command);
    case 'frozen VM':
      return item.path === paths.frozen(item.key) ? removeUnused(env, item.key) : removeWarmRest(env, item);
    case 'lock':
      // Taking it removes whatever the dead have left of it, and releasing it the rest.
      return withLock(item.path, now, async () => true);
    case 'download rest':
      return removeRest(item.rest, cache);
    case 'image':
      return removeImage(item.path, cache, (image) => isStillUnused(env, image, item.lastUsedAt));
  }
}

/** Removes what is left of a VM; false when it is needed after all. Throws `LOCK_TIMEOUT` while somebody works with it. */
export async function removeVmRest(
  env: World,
  { vm, path }: { readonly vm: string; readonly path: string },
): Promise<boolean> {
  return withLock(env.paths.vmLock(vm), { command: env.command, timeoutMs: 0 }, () => removeLocked(env, path));
}

async function removeLocked(env: World, path: string): Promise<boolean> {
  const surroundings = {
    view: await env.registry.look(),
    processes: (await env.hypervisor.findProcesses(env.paths.vms)) ?? [],
  };
  const facts = await examineDirectory(env, basename(path), surroundings);
  // The lock is held, by this process.
  const verdict = facts === null ? null : judgeDirectory({ ...facts, busy: false });
  if (facts === null || verdict === null || !('garbage' in verdict)) return false;
  const doomed = facts.role === 'vm' ? join(dirname(path), `.removing-${facts.vm}`) : path;
  if (doomed !== path) {
    await rm(doomed, { recursive: true, force: true });
    await rename(path, doomed);
  }
  await rm(doomed, { recursive: true, force: true });
  return true;
}

/** Asked under the locks: whoever wants the image now has noted its use before, or will not find it. */
async function isStillUnused(env: World, image: CachedImage, lastUsedAt: number): Promise<boolean> {
  if (image.lastUsedAt !== lastUsedAt) return false;
  const use = await findImageUse(env);
  const facts = { ...image, bytes: image.diskBytes, users: await usersOf(use, image.path) };
  const policy = await policyNow(env, { olderThanSeconds: null, budgetBytes: 0 });
  return use.unreadable.length === 0 && chooseImages([facts], policy).doomed.length > 0;
}
