/** Starting a VM that exists, without its VMFile. */
import type { StageContext } from '../src/model/event.js';
import type { RunningVm, StoppedVm } from '../src/model/vm.js';
import type { RegistryEntry } from '../src/registry.js';
import { type TaskEnvironment, takePlace } from './context.js';
import { awaitUsable } from './provision.js';
import { singleStepTasks } from './single-step.js';
import { startVm } from './start.js';
import { awaitPowerOff, isPoweringOff } from './stop.js';
import { type TaskGraph, runningSummary } from './up.js';
import { assertBootable } from './unsettled.js';
import type { VmRun } from './vm-run.js';

export interface StartOptions {
  /** True: a VM is started when it can be used, and not as soon as it runs. */
  readonly untilUsable?: boolean;
}

export function startTasks(
  env: TaskEnvironment,
  entries: readonly RegistryEntry[],
  { untilUsable = false }: StartOptions = {},
): TaskGraph {
  return singleStepTasks(env, entries, {
    step: 'start',
    work: async (entry, context, run) => {
      let observed = await env.hypervisor.observe(await env.registry.handle(entry));
      if (await isPoweringOff(observed)) observed = await awaitPowerOff(env, observed, context);
      if (observed.state === 'running') return { skipped: 'already running' };
      if (observed.state === 'suspended') return { skipped: `suspended; continue it with: vmctl resume ${entry.name}` };
      const vm = await startStopped(env, { stopped: observed, entry }, context, run);
      if (untilUsable) await awaitUsable(env, { vm, entry }, context);
      return { done: runningSummary(vm) };
    },
  });
}

/** Starts a VM whose lock the run holds. Until the run ends it has one of the places of guests that boot. */
export async function startStopped(
  env: TaskEnvironment,
  vm: { readonly stopped: StoppedVm; readonly entry: RegistryEntry },
  context: StageContext,
  run: VmRun,
): Promise<RunningVm> {
  const reporter = env.events.reporter(null, 'start');
  const { spec } = vm.stopped.handle;
  await assertBootable(env, vm.stopped.handle, vm.entry);
  await env.hypervisor.checkHostFor(vm.entry.backend, { signal: context.signal, reporter }, spec);
  run.atEnd(await takePlace(env.limits.boots, context.signal));
  return startVm(env, vm, context);
}
