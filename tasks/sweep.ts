/** Removes what a killed vmctl left half-built or half-removed; nothing that a living one is working on. */
import { readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { isMissing } from '../src/util/fs.js';
import { lockOwner, withLock } from '../src/util/lock.js';
import type { TaskEnvironment } from './context.js';

/** Never fails and never waits: it is not what the user asked for. What is left is found by the next command. */
export async function sweepLeftovers(env: Pick<TaskEnvironment, 'paths' | 'command'>): Promise<void> {
  const { paths, command } = env;
  for (const entry of await namesIn(paths.vms)) {
    const name = /^\.(?:staging|removing)-(.+)$/.exec(entry)?.[1];
    if (name === undefined || (await lockOwner(paths.vmLock(name))) !== null) continue;
    const remove = () => rm(join(paths.vms, entry), { recursive: true, force: true });
    await withLock(paths.vmLock(name), { command, timeoutMs: 0 }, remove).catch(() => {});
  }
}

async function namesIn(path: string): Promise<readonly string[]> {
  try {
    return await readdir(path);
  } catch (error) {
    if (isMissing(error)) return [];
    throw error;
  }
}
