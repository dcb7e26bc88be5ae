/** Commands that do one thing to each VM: one listr2 task per VM, with that step alone. */
import type { StageContext, Step } from '../src/model/event.js';
import type { RegistryEntry } from '../src/registry.js';
import type { TaskEnvironment } from './context.js';
import { recordFailure } from './record-failure.js';
import type { TaskGraph } from './up.js';
import { type StepResult, VmRun } from './vm-run.js';

export interface SingleStep {
  readonly step: Step;
  /** Called with the VM's lock held. */
  readonly work: (entry: RegistryEntry, context: StageContext, run: VmRun) => Promise<StepResult>;
  /** Awaited before the lock is taken: who holds it must not wait for somebody who may be waiting for it. */
  readonly before?: (entry: RegistryEntry, context: StageContext) => Promise<void>;
}

export function singleStepTasks(env: TaskEnvironment, entries: readonly RegistryEntry[], what: SingleStep): TaskGraph {
  const built = entries.map((entry) => [entry.name, singleStepRun(env, entry, what)] as const);
  return {
    tasks: built.map(([, { task }]) => task),
    runs: new Map(built.map(([name, { run }]) => [name, run])),
  };
}

function singleStepRun(env: TaskEnvironment, entry: RegistryEntry, what: SingleStep) {
  let changed = false;
  const run: VmRun = new VmRun({
    name: entry.name,
    env,
    last: what.step,
    outcome: () => (changed ? 'done' : 'unchanged'),
    onFailure: (step, error) => recordFailure(env, entry, { step, error }),
  });
  const task = run.step(what.step, async (context) => {
    await what.before?.(entry, context);
    await run.lock(context);
    const result = await what.work(entry, context, run);
    changed = 'done' in result;
    return result;
  });
  return { run, task: { ...task, title: `${entry.name}: ${what.step}` } };
}
