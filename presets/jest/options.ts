/** Where a project says what VMs it wants: Jest refuses options of its own kind, and hands these on untouched. */
import { resolve } from 'node:path';
import { ARTIFACTS_FOLDER, type TestVmsOptions } from '../testing/options.js';

export interface VmctlJestOptions extends TestVmsOptions {
  /**
   * `run`, the default: one set of VMs, which every test file and worker shares. `file`: each test file that asks for
   * VMs has a set of its own, which ends with it. `test`: the same, and before each further test that VMs were used
   * before they are reset to how they were provisioned; tests of one file may not be concurrent then.
   */
  readonly isolate?: 'run' | 'file' | 'test' | undefined;
}

/** What is used of Jest's configuration of a project. */
export interface JestProjectConfig {
  readonly rootDir: string;
  readonly testEnvironmentOptions: { readonly vmctl?: VmctlJestOptions };
}

/** `testEnvironmentOptions: { vmctl: { … } }`, with paths that are absolute. */
export function optionsOf({ rootDir, testEnvironmentOptions }: JestProjectConfig): VmctlJestOptions {
  const given = testEnvironmentOptions.vmctl ?? {};
  const cwd = resolve(rootDir, given.cwd ?? '');
  const { artifacts = ARTIFACTS_FOLDER } = given;
  return { ...given, cwd, artifacts: artifacts === false ? false : resolve(cwd, artifacts) };
}
