/** `vmctl/vitest/test`, for test files: Vitest's `test` with the VMs in its context. */
import { relative, resolve } from 'node:path';
import { type TestAPI, inject, test as base } from 'vitest';
import { type AttachedFleet, VmctlError, attach } from '../../src/index.js';
import { saveArtifacts } from '../testing/artifacts.js';
import { ARTIFACTS_FOLDER } from '../testing/options.js';
import { givenConnection, printLine } from '../testing/surroundings.js';
import { fleetOfFile, wantVms } from './file-vms.js';
import type { VmctlVitestOptions, VmsFixtures } from './provided.js';

export type { AttachedFleet, RunningVm } from '../../src/index.js';
export type { VmsFixtures } from './provided.js';

/** Vitest's `test`; a test that takes `vms` gets them, and leaves artefacts when it fails. */
export const test: TestAPI<VmsFixtures> = base.extend<VmsFixtures>({
  vms: async ({ task, onTestFailed }, use) => {
    const fleet = fleetOfFile() ?? (await sharedFleet());
    onTestFailed(async () => saveFailure(fleet, task), ARTIFACTS_LIMIT_MS);
    await use(fleet);
  },
});

export { test as it };

const ARTIFACTS_LIMIT_MS = 60_000;

wantVms();

/** One connection to each VM for all tests of a worker. */
let attached: Promise<AttachedFleet> | null = null;

function sharedFleet(): Promise<AttachedFleet> {
  attached ??= attachShared();
  return attached;
}

async function attachShared(): Promise<AttachedFleet> {
  // Where nothing was provided, there is nothing: the type holds for a run with the set-up.
  const connection: ReturnType<typeof inject<'vmctl'>> | string | null | undefined =
    inject('vmctl') ?? givenConnection();
  if (connection !== null && connection !== undefined) return attach(connection);
  throw new VmctlError('USAGE', 'this run of Vitest has no VMs', {
    hint: "Add the plugin to the configuration of the test's project: plugins: [vmctl()] from vmctl/vitest.",
  });
}

function artifactsFolder(): string | null {
  const options: VmctlVitestOptions | undefined = inject('vmctl:options');
  const folder = options?.artifacts ?? ARTIFACTS_FOLDER;
  return folder === false ? null : resolve(folder);
}

interface FailedTask {
  readonly name: string;
  readonly file: { readonly name: string };
  readonly suite?: FailedSuite | undefined;
}

interface FailedSuite {
  readonly name: string;
  readonly suite?: FailedSuite | undefined;
}

async function saveFailure(fleet: AttachedFleet, task: FailedTask): Promise<void> {
  const folder = artifactsFolder();
  if (folder === null) return;
  const names = [task.name];
  for (let suite = task.suite; suite !== undefined; suite = suite.suite) names.unshift(suite.name);
  const name = names.join(' ');
  const path = await saveArtifacts(fleet, { folder, file: task.file.name, name });
  printLine(`"${name}" failed; its VMs are in ${relative('', path)}`);
}
