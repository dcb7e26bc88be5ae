/** Which running VM a command talks to. */
import { VmctlError } from '../src/errors.js';
import type { Endpoint, RunningVm } from '../src/model/vm.js';
import type { RegistryEntry } from '../src/registry.js';
import { assertPluggedIn } from './cable.js';
import type { TaskEnvironment } from './context.js';
import { DISK_ERROR, afterDiskError } from './remarks.js';

/** The VM and where its SSH is. Throws `VM_STATE` unless it runs, `UNSUPPORTED` where it cannot be logged in to. */
export async function reachableVm(
  env: TaskEnvironment,
  entry: RegistryEntry,
): Promise<{ readonly vm: RunningVm; readonly endpoint: Endpoint }> {
  const handle = await env.registry.handle(entry);
  const observed = await env.hypervisor.observe(handle);
  const { name } = entry;
  if (observed.state !== 'running') {
    const isFailing = observed.state === 'suspended' && observed.pausedBy === 'disk-error';
    const next = observed.state === 'stopped' ? `vmctl start ${name}` : `vmctl resume ${name}`;
    throw new VmctlError('VM_STATE', `VM "${name}" is ${observed.state}${isFailing ? `: ${DISK_ERROR}` : ''}`, {
      hint: isFailing ? afterDiskError(name) : `Run: ${next}`,
      fields: { vm: name },
    });
  }
  const access = env.hypervisor.capabilitiesOf(handle).guestAccess;
  if (!access.supported) {
    throw new VmctlError('UNSUPPORTED', `VM "${name}" cannot be logged in to: ${access.reason}`);
  }
  assertPluggedIn(observed);
  if (observed.ssh !== null) return { vm: observed, endpoint: observed.ssh };
  if (handle.spec.network.kind === 'tap') {
    const where = `the neighbours of the bridge "${handle.spec.network.bridge}" and dnsmasq's leases`;
    throw new VmctlError(
      'UNSUPPORTED',
      `the address of VM "${name}" (${handle.mac}) is not known: it is not among ${where}`,
      {
        hint: `It may be booting still, or have no DHCP server: vmctl log ${name} --console`,
        fields: { vm: name },
      },
    );
  }
  throw new VmctlError(
    'UNSUPPORTED',
    `VM "${name}" has no network that reaches its SSH (network "${handle.spec.network.kind}")`,
    {
      hint: 'Give it network "user" in the VMFile.',
      fields: { vm: name },
    },
  );
}
