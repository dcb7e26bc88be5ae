/** Back to the moment at which a VM was frozen: disk and memory, while its name, its files and its ports stay. */
import { VmctlError } from '../src/errors.js';
import type { StageContext } from '../src/model/event.js';
import type { ObservedVm, RunningVm, StoppedVm, VmHandle } from '../src/model/vm.js';
import { hasStepsForEach } from '../src/provision/step-plan.js';
import type { RegistryEntry } from '../src/registry.js';
import { findDamage, readManifest } from '../src/warm/manifest.js';
import { type TaskEnvironment, takePlace } from './context.js';
import { onSamePorts } from './ports.js';
import { awaitReadyAgain } from './ready.js';
import { singleStepTasks } from './single-step.js';
import { provisionRecorded } from './provision.js';
import { stopVm } from './stop.js';
import { type TaskGraph, runningSummary } from './up.js';
import { restoreVm } from './warm-restore.js';

export function resetTasks(env: TaskEnvironment, entries: readonly RegistryEntry[]): TaskGraph {
  return singleStepTasks(env, entries, {
    step: 'reset',
    work: async (entry, context, run) => {
      const observed = await env.hypervisor.observe(await env.registry.handle(entry));
      run.atEnd(await takePlace(env.limits.boots, context.signal));
      const vm = await resetVm(env, { observed, entry }, context);
      const { spec } = vm.handle;
      if (hasStepsForEach(spec)) {
        await provisionRecorded(env, { vm, entry, spec, runSteps: true, phase: 'each', onBooted: () => {} }, context);
      } else {
        await awaitReadyAgain(env, { vm, entry, connection: null }, context);
      }
      return { done: runningSummary(vm) };
    },
  });
}

/** Throws `UNSUPPORTED` for a VM that was never frozen, `VM_DAMAGED` where what was frozen is. The caller holds the VM's lock. */
async function resetVm(
  env: TaskEnvironment,
  { observed, entry }: { readonly observed: ObservedVm; readonly entry: RegistryEntry },
  context: StageContext,
): Promise<RunningVm> {
  const { key, level } = await frozenOf(env, entry);
  const { handle } = observed;
  const forwards = observed.state === 'stopped' ? [] : observed.forwards;
  context.reporter.status('ending it as it is');
  await stopVm(env, { handle, graceMs: 0 }, context);
  const stopped = await branchUnsettled(env, { handle, key, entry }, context);
  context.reporter.status('going on from what was frozen');
  const job = { stopped, entry, spec: handle.spec, key, level };
  return onSamePorts(level === 'disk' ? [] : forwards, (ports) => restoreVm(env, { ...job, ...ports }, context));
}

/** Its disk is that of the frozen one then, which may have had another name; a VM that keeps its own stays as it was. */
async function branchUnsettled(
  env: TaskEnvironment,
  { handle, key, entry }: { readonly handle: VmHandle; readonly key: string; readonly entry: RegistryEntry },
  context: StageContext,
): Promise<StoppedVm> {
  const { warm } = await env.registry.record(entry);
  await env.registry.updateRecord(entry, { warm: { key, settled: false } });
  try {
    return await env.hypervisor.branch({ state: 'stopped', handle }, env.paths.frozen(key), context);
  } catch (error) {
    await env.registry.updateRecord(entry, { warm });
    throw error;
  }
}

interface FrozenSource {
  readonly key: string;
  readonly level: 'memory' | 'disk';
}

async function frozenOf(env: TaskEnvironment, entry: RegistryEntry): Promise<FrozenSource> {
  const { warm } = await env.registry.record(entry);
  const key = warm?.key ?? null;
  const fields = { vm: entry.name };
  if (key === null) {
    throw new VmctlError('UNSUPPORTED', `VM "${entry.name}" cannot be reset: it was never frozen`, {
      hint: `Write "warm #true" into its vm in the VMFile, then run: vmctl reload ${entry.name}`,
      fields,
    });
  }
  const folder = env.paths.frozen(key);
  const manifest = await readManifest(folder);
  const damage = manifest === null ? 'it cannot be read' : await findDamage(folder, manifest);
  if (manifest !== null && damage === null) return { key, level: manifest.level };
  throw new VmctlError('VM_DAMAGED', `VM "${entry.name}" cannot be reset: what was frozen is damaged: ${damage}`, {
    hint: `To make it anew, run: vmctl reload ${entry.name}`,
    fields,
  });
}
