/** What `up` would do to each VM and why; nothing is changed, fetched or started. */
import { toVmctlError } from '../src/errors.js';
import type { PlannedVm, UnplannedVm } from '../src/model/plan.js';
import { type VmSpec, conditionTitle, stepTitle } from '../src/model/spec.js';
import type { TaskEnvironment } from './context.js';
import { assertAddressIsFree } from './lan.js';
import { type UpOutlook, outlook, warmOutlook } from './up-facts.js';

export interface PlanOptions {
  readonly specs: readonly VmSpec[];
  /** False: no provisioner would be run. */
  readonly provision: boolean;
}

const RESTORED = 'was run before it was frozen';

/** The plan of `up`, in the order of the specs. */
export async function plan(env: TaskEnvironment, options: PlanOptions): Promise<readonly (PlannedVm | UnplannedVm)[]> {
  return Promise.all(
    options.specs.map(async (spec) => {
      try {
        const found = await outlook(env, spec, false);
        await checkNetwork(env, spec, found);
        const warm = options.provision ? await warmOutlook(env, spec, found.action) : null;
        return planned(spec, found, { ...options, warm });
      } catch (error) {
        return { name: spec.name, error: toVmctlError(error).toJSON() };
      }
    }),
  );
}

/** Throws when a VM that would be started could not be connected. */
async function checkNetwork(env: TaskEnvironment, spec: VmSpec, found: UpOutlook): Promise<void> {
  const { hypervisor } = env;
  if (found.action === 'create') {
    await hypervisor.checkNetwork(spec);
    await assertAddressIsFree(env, spec, () => false);
  }
  if (found.action !== 'start' || found.existing === null) return;
  const { handle } = found.existing.observed;
  await hypervisor.checkNetworkFor(handle.backend, handle.spec);
}

function planned(
  spec: VmSpec,
  found: UpOutlook,
  { provision, warm }: Pick<PlanOptions, 'provision'> & Pick<PlannedVm, 'warm'>,
): PlannedVm {
  const { action, reason, changes, existing } = found;
  // What runs and was provisioned is left alone, and so is what was provisioned before it was suspended.
  const provisions =
    provision && action !== 'none' && !(action === 'resume' && existing?.record.provisioning === 'done');
  const restored = warm?.hit === true;
  return {
    name: spec.name,
    action,
    reason,
    waitsFor: action === 'none' ? [] : spec.dependsOn,
    ready: provision ? (spec.ready?.conditions.map(conditionTitle) ?? []) : [],
    changes,
    warm,
    steps: found.steps.map(({ number, step, runs, reason: why }) => ({
      number,
      title: stepTitle(step),
      runs: provisions && runs && !(restored && step.run !== 'each'),
      reason: restored && step.run !== 'each' ? RESTORED : provisions ? why : 'provisioners are not run',
    })),
  };
}
