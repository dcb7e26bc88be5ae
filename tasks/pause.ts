/** Pausing the vCPUs of VMs, and letting them go on. Their memory stays where it is; `suspended.ts` saves it. */
import { VmctlError } from '../src/errors.js';
import type { RegistryEntry } from '../src/registry.js';
import type { TaskEnvironment } from './context.js';
import { notLive } from './not-live.js';
import { singleStepTasks } from './single-step.js';
import { startVm } from './start.js';
import { suspendedAt } from './suspended.js';
import { isUnsettled, unsettledError } from './unsettled.js';
import { type TaskGraph, runningSummary } from './up.js';

export function suspendTasks(env: TaskEnvironment, entries: readonly RegistryEntry[]): TaskGraph {
  return singleStepTasks(env, entries, {
    step: 'suspend',
    work: async (entry, context) => {
      const handle = await env.registry.handle(entry);
      const { suspend } = env.hypervisor.capabilitiesOf(handle);
      if (!suspend.supported) {
        throw new VmctlError('UNSUPPORTED', `VM "${entry.name}" cannot be suspended: ${suspend.reason}`);
      }
      const observed = await env.hypervisor.observe(handle);
      if (observed.state === 'suspended') return { skipped: 'already suspended' };
      if (observed.state === 'stopped') throw notLive(observed, 'suspend');
      await env.hypervisor.suspend(observed, context);
      return { done: `paused; continue it with: vmctl resume ${entry.name}` };
    },
  });
}

export function resumeTasks(env: TaskEnvironment, entries: readonly RegistryEntry[]): TaskGraph {
  return singleStepTasks(env, entries, {
    step: 'resume',
    work: async (entry, context) => {
      const observed = await env.hypervisor.observe(await env.registry.handle(entry));
      if (observed.state === 'running') return { skipped: 'already running' };
      if (observed.state === 'stopped') {
        if ((await suspendedAt(observed.handle)) === null) throw notLive(observed, 'resume');
        return { done: runningSummary(await startVm(env, { stopped: observed, entry }, context)) };
      }
      // It does not know what time it is, and its random numbers are those of others.
      if (await isUnsettled(env, entry)) throw unsettledError(entry.name, 'resume');
      return { done: runningSummary(await env.hypervisor.resume(observed, context)) };
    },
  });
}
