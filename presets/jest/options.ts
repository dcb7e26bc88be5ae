/** Where a project says what VMs it wants: Jest refuses options of its own kind, and hands these on untouched. */
import { resolve } from 'node:path';
import { ARTIFACTS_FOLDER, type TestVmsOptions } from '../testing/options.js';

/** What is used of Jest's configuration of a project. */
export interface JestProjectConfig {
  readonly rootDir: string;
  readonly testEnvironmentOptions: { readonly vmctl?: TestVmsOptions };
}

/** `testEnvironmentOptions: { vmctl: { … } }`, with paths that are absolute. */
export function optionsOf({ rootDir, testEnvironmentOptions }: JestProjectConfig): TestVmsOptions {
  const given = testEnvironmentOptions.vmctl ?? {};
  const cwd = resolve(rootDir, given.cwd ?? '');
  const { artifacts = ARTIFACTS_FOLDER } = given;
  return { ...given, cwd, artifacts: artifacts === false ? false : resolve(cwd, artifacts) };
}
