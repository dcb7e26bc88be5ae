/** What there is already of a VM that is to come up, looked at before anything is decided. */
import { VmctlError, toVmctlError } from '../src/errors.js';
import type { StageContext } from '../src/model/event.js';
import type { Change, UpAction } from '../src/model/plan.js';
import type { VmSpec } from '../src/model/spec.js';
import type { ObservedVm } from '../src/model/vm.js';
import type { WarmOutlook } from '../src/model/warm.js';
import type { Registry, RegistryEntry, VmRecord } from '../src/registry.js';
import type { TaskEnvironment } from './context.js';
import { type PlannedStep, planProvision } from '../src/provision/step-sequence.js';
import { imageAtHand } from './resolve.js';
import { isPoweringOff } from './stop.js';
import { suspendedAt } from './suspended.js';
import { type UpDecision, changeText, changesBetween, decideUp } from './up-plan.js';
import { lookUpWarm, warmReach } from './warm-lookup.js';

/** A VM that exists. */
export interface ExistingVm {
  readonly entry: RegistryEntry;
  readonly observed: ObservedVm;
  readonly record: VmRecord;
}

/** Null when there is no such VM. Throws `VM_FOREIGN` when the name belongs to another VMFile, and `VM_DAMAGED`. */
export async function existingVm(env: TaskEnvironment, spec: VmSpec): Promise<ExistingVm | null> {
  const { registry, hypervisor } = env;
  const entry = await ownEntry(registry, spec);
  if (entry === null) return null;
  const handle = await registry.handle(entry).catch((error: unknown) => {
    // A plan holds no lock, and the VM may be removed just now.
    if (toVmctlError(error).code === 'VM_NOT_FOUND') return null;
    throw error;
  });
  if (handle === null) return null;
  return { entry, observed: await hypervisor.observe(handle), record: await registry.record(entry) };
}

/** What will happen to a VM, and in which ways it is no longer as declared. */
export interface UpOutlook extends UpDecision {
  readonly existing: ExistingVm | null;
  readonly changes: readonly Change[];
  readonly steps: readonly PlannedStep[];
}

/** How a VM that is to be made would begin; null for any other. Fetches nothing. */
export async function warmOutlook(env: TaskEnvironment, spec: VmSpec, action: UpAction): Promise<WarmOutlook | null> {
  if (action !== 'create' && action !== 'recreate') return null;
  const image = warmReach(env, spec).level === 'off' ? null : await imageAtHand(env, spec.image);
  const { level, less, hit, reason } = await lookUpWarm(env, spec, image);
  return { level, less, hit, reason };
}

export async function outlook(env: TaskEnvironment, spec: VmSpec, anew: boolean): Promise<UpOutlook> {
  const existing = await existingVm(env, spec);
  const observed = existing?.observed ?? null;
  const poweringOff = observed !== null && (await isPoweringOff(observed));
  const suspendedToDisk = observed?.state === 'stopped' && (await suspendedAt(observed.handle)) !== null;
  const decision = decideUp({ observed, record: existing?.record ?? null, poweringOff, suspendedToDisk, anew });
  // Told before anything is begun, and by a plan too.
  if (observed !== null && decision.action === 'start') await env.hypervisor.checkDisk(observed.handle);
  const history = decision.action === 'recreate' ? [] : (existing?.record.steps ?? []);
  return {
    ...decision,
    existing,
    changes: observed === null ? [] : changesBetween(observed.handle.spec, spec),
    steps: await planProvision(spec.provision, history),
  };
}

/** Says in which ways the VM is not as declared, and stays so. */
export function noteDifferences(found: UpOutlook, name: string, context: StageContext): void {
  if (found.action === 'create' || found.action === 'recreate') return;
  for (const change of found.changes) {
    context.reporter.log(`${changeText(change)}; to apply that, run: vmctl reload ${name}`);
  }
  const edited = found.steps.filter(({ known }) => known !== 'same').map(({ number }) => number);
  if (found.action !== 'none' || edited.length === 0) return;
  const which = edited.length === 1 ? `step ${edited.join()} is` : `steps ${edited.join(', ')} are`;
  context.reporter.log(`provision ${which} new or changed; to run what is due, run: vmctl provision ${name}`);
}

/** The registry's entry of this VM, if there is one. */
async function ownEntry(registry: Registry, spec: VmSpec): Promise<RegistryEntry | null> {
  const entry = await registry.get(spec.name);
  if (entry === null || entry.project === spec.project) return entry;
  // Damaged files may have lost whose it is: that is told first.
  await registry.handle(entry);
  const owner = entry.project === null ? 'was created without a VMFile' : `belongs to ${entry.project}`;
  throw new VmctlError('VM_FOREIGN', `a VM "${spec.name}" exists already and ${owner}; this is ${spec.project}`, {
    hint: `Give one of them another name, or remove that VM with: vmctl destroy ${spec.name}`,
    fields: { vm: spec.name, project: spec.project, owner: entry.project },
  });
}
