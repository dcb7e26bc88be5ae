/** Reboots: the guest is asked to power off and the VM started again, or its reset button pressed. */
import { VmctlError } from '../src/errors.js';
import type { StageContext } from '../src/model/event.js';
import type { RunningVm } from '../src/model/vm.js';
import type { RegistryEntry } from '../src/registry.js';
import { type TaskEnvironment, takePlace } from './context.js';
import { notLive } from './not-live.js';
import { awaitUsable } from './provision.js';
import { singleStepTasks } from './single-step.js';
import { startStopped } from './start-again.js';
import { recordFreshStart } from './start.js';
import { stopVm } from './stop.js';
import { type TaskGraph, runningSummary } from './up.js';
import type { StepResult, VmRun } from './vm-run.js';
import { assertBootable } from './unsettled.js';

export interface RebootOptions {
  /** True: the guest is not asked, and loses what it has not written to its disk. */
  readonly hard: boolean;
  /** How long a guest that is asked may take to power off, in milliseconds. */
  readonly graceMs: number;
}

export function rebootTasks(
  env: TaskEnvironment,
  entries: readonly RegistryEntry[],
  { hard, graceMs }: RebootOptions,
): TaskGraph {
  return singleStepTasks(env, entries, {
    step: 'reboot',
    work: async (entry, context, run) => {
      const observed = await env.hypervisor.observe(await env.registry.handle(entry));
      if (observed.state !== 'running') throw notLive(observed, 'reboot');
      if (hard) return resetVm(env, { vm: observed, entry }, context, run);
      // Before it is powered off, and then cannot be started.
      await assertBootable(env, observed.handle, entry);
      await stopVm(env, { handle: observed.handle, graceMs }, context);
      const stopped = await env.hypervisor.observe(observed.handle);
      if (stopped.state !== 'stopped') throw new VmctlError('VM_STATE', `VM "${entry.name}" did not stop`);
      const running = await startStopped(env, { stopped, entry }, context, run);
      await awaitUsable(env, { vm: running, entry }, context);
      return { done: runningSummary(running) };
    },
  });
}

async function resetVm(
  env: TaskEnvironment,
  { vm, entry }: { readonly vm: RunningVm; readonly entry: RegistryEntry },
  context: StageContext,
  run: VmRun,
): Promise<StepResult> {
  const { reset } = env.hypervisor.capabilitiesOf(vm.handle);
  if (!reset.supported) throw new VmctlError('UNSUPPORTED', `VM "${entry.name}" cannot be reset: ${reset.reason}`);
  run.atEnd(await takePlace(env.limits.boots, context.signal));
  // As after a start: what provisioners have started does not run any more.
  await recordFreshStart(env, { entry, handle: vm.handle });
  await env.hypervisor.reset(vm, context);
  if (vm.unplugged.includes('outside')) return { done: 'reset; its outside cable is out, so nobody can log in' };
  await awaitUsable(env, { vm, entry }, context);
  return { done: 'reset' };
}
