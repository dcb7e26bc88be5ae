/** The VMs of one test file, for `isolate: 'file'`; the state of a worker, which runs one file at a time. */
import type { AttachedFleet } from '../../src/index.js';
import { endWithRunner } from '../testing/surroundings.js';
import { type TestVms, startVms } from '../testing/vms.js';
import type { VmctlVitestOptions } from './provided.js';

let isWanted = false;
let isBound = false;
let current: TestVms | null = null;

/** Called when a test file imports what gives it VMs; those that do not need none. */
export function wantVms(): void {
  isWanted = true;
}

export async function beginFile(options: VmctlVitestOptions): Promise<void> {
  if (!isWanted) return;
  if (!isBound) endWithRunner();
  isBound = true;
  const { isolate: _, ...rest } = options;
  current = await startVms(rest);
}

export async function endFile(): Promise<void> {
  const ending = current;
  current = null;
  await ending?.end();
}

export function fleetOfFile(): AttachedFleet | null {
  return current?.fleet ?? null;
}
