/** The log of a VM's serial console before somebody reads it: not every backend has it written while the guest prints. */
import { type VmctlError, toVmctlError } from '../src/errors.js';
import type { RegistryEntry } from '../src/registry.js';
import { pause } from '../src/util/wait.js';
import type { TaskEnvironment } from './context.js';

type World = Pick<TaskEnvironment, 'hypervisor' | 'signal'>;

/** Brings the log up to date; gives what is in the way of that, as what is there can be read nevertheless. */
export async function catchUpConsole({ hypervisor, signal }: World, vm: RegistryEntry): Promise<VmctlError | null> {
  return hypervisor.catchUpConsole(vm, signal).then(() => null, toVmctlError);
}

const PAUSE_MS = 150;

/** Keeps the log up to date until it is disposed of, or nobody has to do that. */
export function keepConsole({ hypervisor, signal }: World, vm: RegistryEntry): AsyncDisposable {
  const over = new AbortController();
  const stop = AbortSignal.any([signal, over.signal]);
  const keeping = (async () => {
    // What fails now may go well the next time, such as after a restart.
    while (!(await hypervisor.catchUpConsole(vm, stop).catch(() => false))) await pause(PAUSE_MS, stop);
  })().catch(() => {});
  return {
    [Symbol.asyncDispose]: async () => {
      over.abort();
      await keeping;
    },
  };
}
