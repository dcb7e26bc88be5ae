/** Removes what a killed vmctl left half-built or half-removed; nothing that a living one is working on. */
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { lockOwner } from '../src/util/lock.js';
import { listRests } from '../src/warm/store.js';
import { removeVmRest } from './collect.js';
import type { TaskEnvironment } from './context.js';
import { removeWarmRest } from './warm-collect.js';

/** Never fails and never waits: it is not what the user asked for. What is left is found by the next command. */
export async function sweepLeftovers(env: TaskEnvironment): Promise<void> {
  const { paths } = env;
  for (const entry of await readdir(paths.vms).catch(() => [])) {
    const vm = /^\.(?:staging|removing)-(.+)$/.exec(entry)?.[1];
    if (vm === undefined || (await lockOwner(paths.vmLock(vm))) !== null) continue;
    await removeVmRest(env, { vm, path: join(paths.vms, entry) }).catch(() => {});
  }
  for (const rest of await listRests(paths).catch(() => [])) {
    if ((await lockOwner(paths.frozenLock(rest.key))) === null) await removeWarmRest(env, rest).catch(() => {});
  }
}
