/** What is on a VM's screen. */
import { VmctlError } from '../src/errors.js';
import { noScreen } from '../src/hypervisor/hypervisor.js';
import type { RegistryEntry } from '../src/registry.js';
import type { TaskEnvironment } from './context.js';

/** The bytes of a PNG file. Throws `UNSUPPORTED` where the backend has no screens, `VM_STATE` for a stopped VM. */
export async function takeScreenshot(env: TaskEnvironment, entry: RegistryEntry): Promise<Uint8Array> {
  const handle = await env.registry.handle(entry);
  const { screenshot } = env.hypervisor.capabilitiesOf(handle);
  if (!screenshot.supported) throw noScreen(entry.name, screenshot.reason);
  const vm = await env.hypervisor.observe(handle);
  if (vm.state !== 'stopped') return env.hypervisor.screenshot(vm);
  throw new VmctlError('VM_STATE', `VM "${entry.name}" is stopped, and shows nothing`, {
    hint: `What it printed on its console: vmctl log ${entry.name}`,
    fields: { vm: entry.name },
  });
}
