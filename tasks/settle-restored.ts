/** A guest that goes on from saved memory is told what it cannot know: by the program at its port, or over a login. */
import type { StageContext } from '../src/model/event.js';
import type { RunningVm } from '../src/model/vm.js';
import { settleByPort, settleGuest } from '../src/provision/settle.js';
import type { RegistryEntry } from '../src/registry.js';
import type { SshConnection } from '../src/ssh/client.js';
import type { TaskEnvironment } from './context.js';
import { connectWhenReady, rejoinLan } from './provision.js';

/**
 * Sets the clock, reseeds the random numbers, and tells who is on the LAN now. A guest that nobody can log in to is left
 * as it is.
 */
export async function settleRestored(
  env: TaskEnvironment,
  { vm, entry }: { readonly vm: RunningVm; readonly entry: RegistryEntry },
  context: StageContext,
): Promise<void> {
  const { spec } = vm.handle;
  const { guestAccess } = env.hypervisor.capabilitiesOf(vm.handle);
  if (!guestAccess.supported || !spec.ssh.declared || spec.network.kind === 'none') return;
  if (vm.unplugged.includes('outside')) return;
  await using connection = await connectWhenReady(env, vm, { spec, goesOn: true }, context);
  const problem = await settleMemory(connection, context);
  if (problem !== null) {
    context.reporter.log(`its clock or its random numbers are those of when it was saved: ${problem}`);
  }
  // Without that cable it may have no address there, and hears of nobody.
  if (!vm.unplugged.includes('lan')) await rejoinLan(env, { vm, entry, spec, connection }, context);
}

const SETTLING = 'setting its clock, and new random numbers';

/** Tells it by the program that waits at its port, before anybody logs in; false where that does not answer. */
export async function settleAtPort(env: TaskEnvironment, vm: RunningVm, context: StageContext): Promise<boolean> {
  const port = env.hypervisor.guestPort(vm.handle);
  if (port === null) return false;
  context.reporter.status(SETTLING);
  return settleByPort(port, context);
}

/** Gives why its clock or its random numbers are those of when it was saved, or null. */
export async function settleMemory(connection: SshConnection, context: StageContext): Promise<string | null> {
  context.reporter.status(SETTLING);
  return settleGuest(connection, { signal: context.signal });
}
