/** The file that a download is written to, beside its place, until it is complete; and those that killed ones left. */
import { randomBytes } from 'node:crypto';
import { lstat, readdir, rename, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { identifyProcess } from '../util/process.js';

const PART = /^\.vmctl-(\d+)-[0-9a-f]{8}\.part$/;

/** One that grows is not a rest: its process may be one of another host or container, which is not seen here. */
const STILL_MS = 60_000;

/** Lets something be made beside its place, and puts it there when it is complete. */
export async function replace<T>(path: string, make: (temporary: string) => Promise<T>): Promise<T> {
  // Not made of the name, which may be as long as names can be.
  const temporary = join(dirname(path), `.vmctl-${process.pid}-${randomBytes(4).toString('hex')}.part`);
  try {
    const made = await make(temporary);
    await rename(temporary, path);
    return made;
  } catch (error) {
    await rm(temporary, { force: true }).catch(() => {});
    throw error;
  }
}

/** Removes what downloads of killed processes have left in a folder. Never fails: it is not what the user asked for. */
export async function removeParts(folder: string): Promise<void> {
  const names = await readdir(folder).catch(() => []);
  for (const name of names) {
    const pid = PART.exec(name)?.[1];
    if (pid !== undefined) await removeRest(join(folder, name), Number(pid)).catch(() => {});
  }
}

async function removeRest(path: string, pid: number): Promise<void> {
  const { mtimeMs } = await lstat(path);
  if (Date.now() - mtimeMs < STILL_MS || (await identifyProcess(pid)) !== null) return;
  await rm(path);
}
