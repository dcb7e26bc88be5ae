/** The end of a run: its processes first, so that it is quick, then everything that the VMs have, then the directory. */
import { realpath, rm } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { VmctlError } from '../errors.js';
import { type RouterHypervisor, createRouter } from '../hypervisor/router.js';
import { silentReporter } from '../model/event.js';
import { RUN_FILES, type StatePaths } from '../paths.js';
import { Registry, type RegistryEntry } from '../registry.js';
import { exists, namesIn } from '../util/fs.js';
import { waitFor } from '../util/wait.js';

const DEADLINE_MS = 15_000;

/**
 * Ends every VM of a run and removes its directory; nothing that belongs to it is worth saving. Looks again until there
 * is nothing left, because a process that was killed may have been about to start one. Throws `STATE_DIRECTORY` when
 * something stays; the lease goes last, so the next one who looks finds the run and tries again.
 */
export async function reapRun(paths: StatePaths, hypervisor = routerFor(paths)): Promise<void> {
  const world: World = {
    paths,
    // By way of the folder above, which stays: the kernel tells real paths, also of a directory that is gone.
    vms: join(await realpath(dirname(paths.root)).catch(() => dirname(paths.root)), basename(paths.root), 'vms'),
    registry: new Registry({ paths, command: 'vmctl watchdog' }),
    hypervisor,
  };
  let last = 'something uses it';
  const attempt = async (): Promise<true | null> => {
    try {
      const killed = await killMachines(world);
      for (const entry of await world.registry.list().catch(() => [])) await removeVm(world, entry);
      await removeDirectory(paths.root);
      return killed === 0 && !(await exists(paths.root)) ? true : null;
    } catch (error) {
      last = error instanceof Error ? error.message : String(error);
      return null;
    }
  };
  if ((await waitFor(attempt, { timeoutMs: DEADLINE_MS })) !== null) return;
  throw new VmctlError('STATE_DIRECTORY', `cannot remove ${paths.root}: ${last}`, {
    hint: 'To try again, run: vmctl gc',
    fields: { path: paths.root },
  });
}

interface World {
  readonly paths: StatePaths;
  readonly vms: string;
  readonly registry: Registry;
  readonly hypervisor: RouterHypervisor;
}

/** Only ends VMs, so nothing that is configured matters. */
function routerFor(paths: StatePaths): RouterHypervisor {
  const qemu = {
    binary: null,
    extraArguments: [],
    accelerator: 'auto',
    hostFile: paths.host,
    searchPath: '',
    leaseFiles: null,
  } as const;
  return createRouter({ qemu, propolis: { locks: paths.locks }, backend: 'qemu' });
}

/** Gives how many there were. */
async function killMachines({ hypervisor, vms }: World): Promise<number> {
  const processes = (await hypervisor.findProcesses(vms)) ?? [];
  for (const process of processes) await hypervisor.killProcess(process);
  return processes.length;
}

async function removeVm({ registry, hypervisor }: World, entry: RegistryEntry): Promise<void> {
  const handle = await registry.handle(entry).catch(() => null);
  const context = { signal: new AbortController().signal, reporter: silentReporter };
  if (handle === null) await hypervisor.discard(entry);
  else await hypervisor.destroy(handle, context);
}

async function removeDirectory(root: string): Promise<void> {
  const options = { recursive: true, force: true, maxRetries: 3 };
  for (const name of await namesIn(root)) {
    if (name !== RUN_FILES.lease) await rm(join(root, name), options);
  }
  await rm(root, options);
}
