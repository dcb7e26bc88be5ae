/** Starting a VM that exists, without its VMFile: one listr2 task per VM with the start step alone. */
import type { RegistryEntry } from '../src/registry.js';
import { type TaskEnvironment, takePlace } from './context.js';
import { recordFailure } from './record-failure.js';
import { startVm } from './start.js';
import { type TaskGraph, runningSummary } from './up.js';
import { VmRun } from './vm-run.js';

export function startTasks(env: TaskEnvironment, entries: readonly RegistryEntry[]): TaskGraph {
  const runs = entries.map((entry) => [entry, startRun(env, entry)] as const);
  return {
    tasks: runs.map(([, { task }]) => task),
    runs: new Map(runs.map(([entry, { run }]) => [entry.name, run])),
  };
}

function startRun(env: TaskEnvironment, entry: RegistryEntry) {
  let changed = false;
  const run = new VmRun({
    name: entry.name,
    env,
    last: 'start',
    outcome: () => (changed ? 'done' : 'unchanged'),
    onFailure: (step, error) => recordFailure(env, entry, { step, error }),
  });
  const step = run.step('start', async (context) => {
    await run.lock(context);
    const observed = await env.hypervisor.observe(await env.registry.handle(entry));
    if (observed.state === 'running') return { skipped: 'already running' };
    if (observed.state === 'suspended') return { skipped: 'suspended; continue it with: vmctl up' };
    const reporter = env.events.reporter(null, 'start');
    const { spec } = observed.handle;
    await env.hypervisor.checkHostFor(entry.backend, { signal: context.signal, reporter }, spec);
    run.atEnd(await takePlace(env.limits.boots, context.signal));
    const running = await startVm(env, { stopped: observed, entry }, context);
    changed = true;
    return { done: runningSummary(running) };
  });
  return { run, task: { ...step, title: `${entry.name}: start` } };
}
