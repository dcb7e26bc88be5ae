/** Power cuts: noted in the VM's directory, so that nobody takes one for damage. */
import { open, rm, stat, utimes } from 'node:fs/promises';
import { join } from 'node:path';
import { VmctlError } from '../src/errors.js';
import type { VmHandle } from '../src/model/vm.js';
import { PRIVATE_FILE_MODE, VM_FILES } from '../src/paths.js';
import type { RegistryEntry } from '../src/registry.js';
import { isFull } from '../src/util/fs.js';
import type { TaskEnvironment } from './context.js';
import { notLive } from './not-live.js';
import { singleStepTasks } from './single-step.js';
import type { TaskGraph } from './up.js';

export function crashTasks(env: TaskEnvironment, entries: readonly RegistryEntry[]): TaskGraph {
  return singleStepTasks(env, entries, {
    step: 'crash',
    work: async (entry, context) => {
      const handle = await env.registry.handle(entry);
      const { crash } = env.hypervisor.capabilitiesOf(handle);
      if (!crash.supported) {
        throw new VmctlError('UNSUPPORTED', `the power of VM "${entry.name}" cannot be cut: ${crash.reason}`);
      }
      const observed = await env.hypervisor.observe(handle);
      if (observed.state === 'stopped') throw notLive(observed, 'crash');
      // Noted first: whoever looks at the VM as soon as it is gone knows why.
      await notePowerCut(handle);
      try {
        await env.hypervisor.crash(observed, context);
      } catch (error) {
        await forgetPowerCut(handle);
        throw error;
      }
      return { done: `its power was cut; start it again with: vmctl start ${entry.name}` };
    },
  });
}

/** When the power of a VM was cut, in ISO 8601; null where it ended otherwise, or was started since. */
export async function powerCutAt(handle: VmHandle): Promise<string | null> {
  const facts = await stat(noteOf(handle)).catch(() => null);
  return facts === null ? null : facts.mtime.toISOString();
}

/** For a VM that is about to start. */
export async function forgetPowerCut(handle: VmHandle): Promise<void> {
  await rm(noteOf(handle), { force: true });
}

/** An empty file, which even a full disk has room for. */
async function notePowerCut(handle: VmHandle): Promise<void> {
  try {
    await (await open(noteOf(handle), 'w', PRIVATE_FILE_MODE)).close();
    const now = new Date();
    await utimes(noteOf(handle), now, now);
  } catch (error) {
    if (!isFull(error)) throw error;
  }
}

function noteOf({ directory }: VmHandle): string {
  return join(directory, VM_FILES.powerCut);
}
