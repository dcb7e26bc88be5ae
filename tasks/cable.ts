/** The cables of VMs, pulled out and plugged in again. The host does that, so it makes no difference what the guest does. */
import { VmctlError } from '../src/errors.js';
import { type Nic, type ObservedVm, type VmHandle, nicsOf } from '../src/model/vm.js';
import type { RegistryEntry } from '../src/registry.js';
import type { TaskEnvironment } from './context.js';
import { notLive } from './not-live.js';
import { singleStepTasks } from './single-step.js';
import type { TaskGraph } from './up.js';

export interface CableChange {
  /** Null: that of the LAN where the VM is on one, else the one to the outside. */
  readonly nic: Nic | null;
  /** True: plugged in. */
  readonly up: boolean;
}

export function cableTasks(
  env: TaskEnvironment,
  entries: readonly RegistryEntry[],
  { nic: wanted, up }: CableChange,
): TaskGraph {
  const step = up ? 'connect' : 'disconnect';
  return singleStepTasks(env, entries, {
    step,
    work: async (entry, context) => {
      const handle = await env.registry.handle(entry);
      const { links } = env.hypervisor.capabilitiesOf(handle);
      if (!links.supported) {
        throw new VmctlError('UNSUPPORTED', `no cable of VM "${entry.name}" can be unplugged: ${links.reason}`);
      }
      const nic = chooseNic(handle, wanted);
      const observed = await env.hypervisor.observe(handle);
      if (observed.state === 'stopped') throw notLive(observed, step);
      // Also where it is so already: what is remembered may be wrong after a vmctl that was killed.
      await env.hypervisor.setLink(observed, { nic, up }, context);
      if (observed.unplugged.includes(nic) !== up)
        return { skipped: `its ${nic} cable is ${up ? 'in' : 'out'} already` };
      if (up) return { done: `its ${nic} cable is in` };
      return { done: `its ${nic} cable is out; plug it in again with: ${connectCommand(entry.name, nic)}` };
    },
  });
}

/** Throws `USAGE` for a card that the VM has not. */
function chooseNic(handle: VmHandle, wanted: Nic | null): Nic {
  const nics = nicsOf(handle);
  const chosen = wanted ?? nics.at(-1);
  if (chosen !== undefined && nics.includes(chosen)) return chosen;
  const { name } = handle;
  const message = chosen === undefined ? `VM "${name}" has no network card` : `VM "${name}" has no cable "${chosen}"`;
  throw new VmctlError('USAGE', message, {
    hint: nics.length === 0 ? 'Give it a network in the VMFile.' : `It has: ${nics.join(', ')}`,
    fields: { vm: name, nic: chosen ?? null },
  });
}

/** Throws `VM_STATE` where vmctl cannot reach the guest because the cable is out that leads there. */
export function assertPluggedIn(vm: ObservedVm): void {
  if (vm.state === 'stopped' || !vm.unplugged.includes('outside')) return;
  const { name } = vm.handle;
  throw new VmctlError('VM_STATE', `VM "${name}" cannot be reached: its outside cable is out`, {
    hint: `Plug it in again with: ${connectCommand(name, 'outside')}`,
    fields: { vm: name, unplugged: vm.unplugged.join(' ') },
  });
}

export function connectCommand(name: string, nic: Nic): string {
  return `vmctl connect ${name} --nic ${nic}`;
}
