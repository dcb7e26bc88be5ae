/** A disk so small that a test can fill it, mounted where the test wants it. */
import { spawnSync } from 'node:child_process';
import { mkdir, open, rm, statfs, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

export interface SmallDisk extends AsyncDisposable {
  /** Leaves no free block on it, or as many bytes as are named. */
  fill(leave?: number): Promise<void>;
  /** Gives back what `fill` took. */
  free(): Promise<void>;
}

/** Mounts a memory file system at a path that is made; null where this host lets nobody mount anything. */
export async function mountSmallDisk(path: string, mebibytes: number): Promise<SmallDisk | null> {
  await mkdir(path, { recursive: true });
  const words = ['-t', 'tmpfs', '-o', `size=${mebibytes}m,mode=700`, 'vmctl-test', path];
  return spawnSync('mount', words).status === 0 ? smallDisk(path) : null;
}

/**
 * The same with a file system as people have one, whose image is beside the path; a memory file system where this host
 * has no loop devices.
 */
export async function mountExt4(path: string, mebibytes: number): Promise<SmallDisk | null> {
  await mkdir(path, { recursive: true });
  const image = `${path}.ext4`;
  await writeFile(image, '');
  await truncate(image, mebibytes * 1024 ** 2);
  const made = spawnSync('mkfs.ext4', ['-q', '-F', '-m', '0', image]).status === 0;
  if (made && spawnSync('mount', ['-o', 'loop', image, path]).status === 0) return smallDisk(path);
  return mountSmallDisk(path, mebibytes);
}

function smallDisk(path: string): SmallDisk {
  const filler = join(path, 'filler');
  return {
    fill: async (leave = 0) => {
      const { bavail, bsize } = await statfs(path);
      const bytes = bavail * bsize - leave;
      // As much as there is, without writing it.
      if (bytes > 0) spawnSync('fallocate', ['--length', String(bytes), filler]);
      if (leave === 0) await writeUntilFull(filler);
    },
    free: () => rm(filler, { force: true }),
    // What is still open on it keeps it alive until it is closed.
    [Symbol.asyncDispose]: async () => void spawnSync('umount', ['--lazy', path]),
  };
}

async function writeUntilFull(path: string): Promise<void> {
  const file = await open(path, 'a');
  try {
    const block = Buffer.alloc(4096, 1);
    for (;;) await file.writeFile(block);
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'ENOSPC')) throw error;
  } finally {
    await file.close();
  }
}

/** Whether this host lets the tests mount something. */
export function mayMount(): boolean {
  return spawnSync('unshare', ['--mount', 'true']).status === 0;
}
