/** Keeps why a VM failed last, for `vmctl status`. */
import type { ErrorCode, VmctlError } from '../src/errors.js';
import type { Step } from '../src/model/event.js';
import type { RegistryEntry } from '../src/registry.js';
import type { TaskEnvironment } from './context.js';

/** What says of the request, and nothing of the VM. */
const NO_FAILURE: readonly ErrorCode[] = ['ABORTED', 'USAGE', 'SNAPSHOT_NOT_FOUND'];

/** The caller holds the VM's lock. An interruption is no failure, and a VM that is gone has no record. */
export async function recordFailure(
  env: TaskEnvironment,
  entry: RegistryEntry,
  failure: { readonly step: Step; readonly error: VmctlError },
): Promise<void> {
  const { step, error } = failure;
  if (NO_FAILURE.includes(error.code) || (await env.registry.get(entry.name)) === null) return;
  const lastFailure = { step, time: new Date().toISOString(), error: error.toJSON() };
  const provisioning = step === 'provision' ? ({ provisioning: 'failed' } as const) : {};
  await env.registry.updateRecord(entry, { lastFailure, ...provisioning });
}
