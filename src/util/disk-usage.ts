/** What files take of the disk. */
import { lstat, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { isMissing } from './fs.js';

/** stat(2): `st_blocks` counts in 512 bytes, whatever the file system. */
const BLOCK_BYTES = 512;

/** Bytes on the disk of a file, or of a folder with everything in it; 0 for what is not there. Follows no links. */
export async function diskUsage(path: string): Promise<number> {
  try {
    const facts = await lstat(path);
    const own = facts.blocks * BLOCK_BYTES;
    if (!facts.isDirectory()) return own;
    const inside = await Promise.all((await readdir(path)).map((name) => diskUsage(join(path, name))));
    return inside.reduce((sum, bytes) => sum + bytes, own);
  } catch (error) {
    if (isMissing(error)) return 0;
    throw error;
  }
}
