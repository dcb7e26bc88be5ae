/** The servers of this host that work in the directory of a VM, whoever started them. */
import { readdir, readlink } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { commandLineOf, findByCommandLine, identifyProcess, isSameProcess } from '../../util/process.js';
import type { WorkProcess } from '../hypervisor.js';
import type { HostRunner } from './host-runner.js';
import { DEFAULTS } from './options.js';
import { findServer } from './server.js';

/**
 * Those below `vms`: the ones that are written down in a VM's directory, and the ones that say that they work in one.
 * Of a server that runs as another user, such as by pfexec, nobody is told that.
 */
export async function findServersBelow(vms: string): Promise<readonly WorkProcess[]> {
  const found = new Map<number, WorkProcess>();
  const add = (pid: number, directory: string) =>
    found.set(pid, { backend: 'propolis', pid, vm: basename(directory), directory });
  for (const name of await readdir(vms).catch(() => [])) {
    const directory = join(vms, name);
    const server = await findServer({ name, directory }).catch(() => null);
    if (server !== null) add(server.process.pid, directory);
  }
  for (const { pid } of await findByCommandLine((words) => words.includes('run') && words.some(isServerName))) {
    const directory = await readlink(`/proc/${pid}/path/cwd`).catch(() => null);
    if (directory !== null && dirname(directory) === vms && (await commandLineOf(pid)) !== null) add(pid, directory);
  }
  return [...found.values()];
}

const isServerName = (word: string): boolean => basename(word) === DEFAULTS.binary;

/** By the host's own command, because a server that was started by pfexec is somebody else's. */
export async function killFound({ pid }: WorkProcess, host: HostRunner): Promise<void> {
  const identity = await identifyProcess(pid);
  if (identity === null) return;
  await host.change(['kill', '-KILL', String(pid)]).catch(async (error: unknown) => {
    if (await isSameProcess(identity)) throw error;
  });
}
