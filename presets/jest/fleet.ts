/** The VMs as the test files of one process of Jest use them: one connection to each VM serves them all. */
import { type AttachedFleet, VmctlError, attach } from '../../src/index.js';
import { endWithRunner, givenConnection } from '../testing/surroundings.js';
import { type TestVms, resetVms, startVms } from '../testing/vms.js';
import type { VmctlJestOptions } from './options.js';

let attached: { readonly path: string; readonly fleet: Promise<AttachedFleet> } | null = null;
let isUsed = false;
/** Where each test file has VMs of its own: what they are, and those of the current file once it has asked for them. */
let own: { readonly options: VmctlJestOptions; vms: Promise<TestVms> | null } | null = null;
let isDirty = false;
let isBound = false;

/** The VMs of this run of Jest. Throws `USAGE` where it has none. */
export async function vms(): Promise<AttachedFleet> {
  if (own !== null) return fleetOfFile(own);
  const path = givenConnection();
  if (path === null) {
    throw new VmctlError('USAGE', 'this run of Jest has no VMs', {
      hint: "Add preset: 'vmctl/jest' to the configuration of Jest.",
    });
  }
  isUsed = true;
  // In a worker that lives longer than a run, the VMs may be others than before.
  if (attached?.path !== path) attached = { path, fleet: attach(path) };
  return attached.fleet;
}

async function fleetOfFile(file: NonNullable<typeof own>): Promise<AttachedFleet> {
  if (!isBound) endWithRunner();
  isBound = true;
  isUsed = true;
  const { isolate: _, ...options } = file.options;
  file.vms ??= startVms(options);
  return (await file.vms).fleet;
}

/** A test file begins; nobody has asked for VMs in it yet. */
export function beginFile(options: VmctlJestOptions): void {
  isUsed = false;
  isDirty = false;
  own = (options.isolate ?? 'run') === 'run' ? null : { options, vms: null };
}

/** Gives the next test VMs as they were provisioned, where a test before has had them. */
export async function beginTest(): Promise<void> {
  const vmsOfFile = own?.options.isolate === 'test' ? own.vms : null;
  if (vmsOfFile === null || !isDirty) return;
  await resetVms((await vmsOfFile).fleet);
  isDirty = false;
}

/** A test is over, which may have used the VMs that there are. */
export function endTest(): void {
  isDirty = own !== null && own.vms !== null;
}

export async function endFile(): Promise<void> {
  const ending = own?.vms ?? null;
  own = null;
  await (await ending?.catch(() => null))?.end();
}

/** The VMs, if the current test file has asked for them. */
export async function usedFleet(): Promise<AttachedFleet | null> {
  if (own !== null) return own.vms === null ? null : (await own.vms).fleet;
  return isUsed && attached !== null ? attached.fleet : null;
}
