/**
 * `vmctl/node-test`, for node's own test runner. It runs each test file in a process of its own: without a global
 * set-up each has VMs of its own; with one, or within `vmctl run`, all share them.
 */
import { relative, resolve } from 'node:path';
import { type TestContext, after, afterEach } from 'node:test';
import type { AttachedFleet } from '../../src/index.js';
import { saveArtifacts } from '../testing/artifacts.js';
import { ARTIFACTS_FOLDER, type TestVmsOptions } from '../testing/options.js';
import { endWithRunner, mainFile, printLine } from '../testing/surroundings.js';
import { type TestVms, startVms } from '../testing/vms.js';

export type { AttachedFleet, RunningVm } from '../../src/index.js';
export type { TestVmsOptions } from '../testing/options.js';

interface Begun {
  readonly vms: TestVms;
  readonly options: TestVmsOptions;
}

const begun: Begun[] = [];

/**
 * Gives the VMs, which end after the last test: `const { web } = await vms({ vms: ['web'] })`, at the top of a file or
 * in a `before` hook. Throws as `up` does.
 */
export async function vms(options: TestVmsOptions = {}): Promise<AttachedFleet> {
  endWithRunner();
  const started = await startVms(options);
  begun.push({ vms: started, options });
  return started.fleet;
}

// Here, because whoever calls vms() in a hook is in that hook's scope, and not in the one of the whole run.
afterEach(async (context) => {
  if (!('fullName' in context) || !('passed' in context) || context.passed === true) return;
  for (const { vms: failed, options } of begun) await saveFailure(failed.fleet, context, options);
});
after(async () => {
  await Promise.all(begun.splice(0).map(async (each) => each.vms.end()));
});

type FailedTest = Pick<TestContext, 'fullName'> & {
  /** Since Node.js 22.6. */
  readonly filePath?: string | undefined;
};

async function saveFailure(fleet: AttachedFleet, test: FailedTest, options: TestVmsOptions): Promise<void> {
  const { artifacts = ARTIFACTS_FOLDER, cwd = '' } = options;
  if (artifacts === false) return;
  const file = relative(resolve(cwd), test.filePath ?? mainFile());
  const path = await saveArtifacts(fleet, { folder: resolve(cwd, artifacts), file, name: test.fullName });
  printLine(`"${test.fullName}" failed; its VMs are in ${relative('', path)}`);
}
