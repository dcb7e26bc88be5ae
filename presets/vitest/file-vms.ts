/** The VMs of one test file, where `isolate` is not `run`; the state of a worker, which runs one file at a time. */
import { type AttachedFleet, VmctlError } from '../../src/index.js';
import { endWithRunner } from '../testing/surroundings.js';
import { type TestVms, resetVms, startVms } from '../testing/vms.js';
import type { VmctlVitestOptions } from './provided.js';

let isWanted = false;
let isBound = false;
let current: TestVms | null = null;
/** A test has had them since they were as provisioned. */
let isUsed = false;

/** Called when a test file imports what gives it VMs; those that do not need none. */
export function wantVms(): void {
  isWanted = true;
}

export async function beginFile(options: VmctlVitestOptions): Promise<void> {
  if (!isWanted) return;
  // Node.js 20 adds it to its own context alone, and these pools run tests in others.
  if (!('asyncDispose' in Symbol)) {
    throw new VmctlError(
      'UNSUPPORTED',
      `isolate: '${options.isolate}' does not work in the pools vmThreads and vmForks here`,
      {
        hint: 'Use the pool forks or threads, or a newer Node.js.',
      },
    );
  }
  if (!isBound) endWithRunner();
  isBound = true;
  const { isolate: _, ...rest } = options;
  current = await startVms(rest);
  isUsed = false;
}

/** Gives the next test VMs as they were provisioned, where a test before has had them. */
export async function beginTest({ isolate }: VmctlVitestOptions): Promise<void> {
  if (current === null || !isUsed || isolate !== 'test') return;
  await resetVms(current.fleet);
  isUsed = false;
}

export async function endFile(): Promise<void> {
  const ending = current;
  current = null;
  await ending?.end();
}

export function fleetOfFile(): AttachedFleet | null {
  isUsed = true;
  return current?.fleet ?? null;
}
