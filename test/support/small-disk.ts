/** A disk so small that a test can fill it: a memory file system of a few MiB, mounted where the test wants it. */
import { spawnSync } from 'node:child_process';
import { mkdir, open, rm } from 'node:fs/promises';
import { join } from 'node:path';

export interface SmallDisk extends AsyncDisposable {
  /** Leaves no free block on it. */
  fill(): Promise<void>;
  /** Gives back what `fill` took. */
  free(): Promise<void>;
}

/** Mounts one at a path that is made; null where this host lets nobody mount anything. */
export async function mountSmallDisk(path: string, mebibytes: number): Promise<SmallDisk | null> {
  await mkdir(path, { recursive: true });
  const words = ['-t', 'tmpfs', '-o', `size=${mebibytes}m,mode=700`, 'vmctl-test', path];
  if (spawnSync('mount', words).status !== 0) return null;
  const filler = join(path, 'filler');
  return {
    fill: async () => {
      const file = await open(filler, 'a');
      try {
        const block = Buffer.alloc(4096, 1);
        for (;;) await file.writeFile(block);
      } catch (error) {
        if (!(error instanceof Error && 'code' in error && error.code === 'ENOSPC')) throw error;
      } finally {
        await file.close();
      }
    },
    free: () => rm(filler, { force: true }),
    // What is still open on it keeps it alive until it is closed.
    [Symbol.asyncDispose]: async () => void spawnSync('umount', ['--lazy', path]),
  };
}

/** Whether this host lets the tests mount something. */
export function mayMount(): boolean {
  return spawnSync('unshare', ['--mount', 'true']).status === 0;
}
