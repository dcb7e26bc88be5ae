/** A guest that goes on from saved memory is told what it cannot know, over a login that its pinned host key verifies. */
import type { StageContext } from '../src/model/event.js';
import type { RunningVm } from '../src/model/vm.js';
import { settleGuest } from '../src/provision/settle.js';
import type { TaskEnvironment } from './context.js';
import { connectWhenReady } from './provision.js';

/** A guest that goes on answers within seconds, or never. */
const ANSWER_SECONDS = 45;

/** Sets the clock and reseeds the random numbers. A guest that nobody can log in to is left as it is. */
export async function settleRestored(env: TaskEnvironment, vm: RunningVm, context: StageContext): Promise<void> {
  const { spec } = vm.handle;
  const { guestAccess } = env.hypervisor.capabilitiesOf(vm.handle);
  if (!guestAccess.supported || !spec.ssh.declared || spec.network.kind === 'none') return;
  if (vm.unplugged.includes('outside')) return;
  await using connection = await connectWhenReady(env, vm, { spec, seconds: ANSWER_SECONDS }, context);
  context.reporter.status('setting its clock, and new random numbers');
  const problem = await settleGuest(connection, { beforeSaving: false, signal: context.signal });
  if (problem === null) return;
  context.reporter.log(`its clock or its random numbers are those of when it was saved: ${problem}`);
}
