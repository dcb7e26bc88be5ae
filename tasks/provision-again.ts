/** Running the provisioners of VMs that run already, those first that others depend on. */
import { VmctlError } from '../src/errors.js';
import type { StageContext } from '../src/model/event.js';
import type { VmSpec } from '../src/model/spec.js';
import type { RegistryEntry } from '../src/registry.js';
import { unlessAborted } from '../src/util/wait.js';
import type { TaskEnvironment } from './context.js';
import { provisionRecorded } from './provision.js';
import { singleStepTasks } from './single-step.js';
import type { TaskGraph } from './up.js';

/** A VM that exists, and what its VMFile declares now. */
export interface ProvisionJob {
  readonly entry: RegistryEntry;
  readonly spec: VmSpec;
}

export function provisionTasks(env: TaskEnvironment, jobs: readonly ProvisionJob[]): TaskGraph {
  const specs = new Map(jobs.map(({ spec }) => [spec.name, spec]));
  const graph: TaskGraph = singleStepTasks(
    env,
    jobs.map(({ entry }) => entry),
    {
      step: 'provision',
      before: async ({ name }, context) => {
        for (const dependency of specs.get(name)?.dependsOn ?? []) await awaitRun(graph, dependency, context);
      },
      work: async (entry, context) => {
        const spec = specs.get(entry.name);
        if (spec === undefined) throw new VmctlError('INTERNAL', `Internal error: no spec of "${entry.name}"`);
        const vm = await env.hypervisor.observe(await env.registry.handle(entry));
        if (vm.state !== 'running') throw notRunning(entry.name, vm.state);
        if (spec.provision.length === 0 && spec.ready === null) {
          return { skipped: 'the VMFile has no provisioners for it' };
        }
        await env.registry.updateRecord(entry, { provisioning: 'pending' });
        return { done: await provisionRecorded(env, { vm, entry, spec, runSteps: true, onBooted: () => {} }, context) };
      },
    },
  );
  return graph;
}

async function awaitRun(graph: TaskGraph, name: string, context: StageContext): Promise<void> {
  const run = graph.runs.get(name);
  if (run === undefined) return;
  context.reporter.status(`waiting for ${name}`);
  await unlessAborted(run.ended, context.signal);
}

function notRunning(name: string, state: 'stopped' | 'suspended'): VmctlError {
  return new VmctlError('VM_STATE', `cannot provision VM "${name}": it is ${state}`, {
    hint: `Run: vmctl up ${name}`,
    fields: { vm: name, state },
  });
}
