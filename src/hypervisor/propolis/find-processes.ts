/** The servers of this host that work in the directory of a VM, whoever started them. */
import { readlink } from 'node:fs/promises';
import { basename, dirname } from 'node:path';
import { commandLineOf, findByCommandLine } from '../../util/process.js';
import type { WorkProcess } from '../hypervisor.js';
import { DEFAULTS } from './options.js';

/** Those below `vms`. */
export async function findServersBelow(vms: string): Promise<readonly WorkProcess[]> {
  const found: WorkProcess[] = [];
  for (const { pid } of await findByCommandLine((words) => words.includes('run') && words.some(isServerName))) {
    const directory = await readlink(`/proc/${pid}/path/cwd`).catch(() => null);
    if (directory === null || dirname(directory) !== vms || (await commandLineOf(pid)) === null) continue;
    found.push({ pid, vm: basename(directory), directory });
  }
  return found;
}

const isServerName = (word: string): boolean => basename(word) === DEFAULTS.binary;
