/** `vmctl/vitest/setup`: the global set-up, also without the plugin: `globalSetup: ['vmctl/vitest/setup']`. */
import { resolve } from 'node:path';
import type { TestProject } from 'vitest/node';
import { ARTIFACTS_FOLDER } from '../testing/options.js';
import { type TestVms, startVms } from '../testing/vms.js';
import type { VmctlVitestOptions } from './provided.js';

/** Projects of one run that want the same VMs share them. */
interface Shared {
  readonly vms: Promise<TestVms>;
  users: number;
}

const runs = new WeakMap<object, Map<string, Shared>>();

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const options = optionsOf(project);
  project.provide('vmctl:options', options);
  if (options.isolate === 'file' || options.isolate === 'test') return async () => {};
  const shared = runs.get(project.vitest) ?? new Map<string, Shared>();
  runs.set(project.vitest, shared);
  const key = JSON.stringify(options);
  const found = shared.get(key) ?? { vms: startVms(options), users: 0 };
  shared.set(key, found);
  found.users += 1;
  const { fleet } = await found.vms;
  project.provide('vmctl', fleet.toJSON());
  return async () => {
    found.users -= 1;
    if (found.users > 0) return;
    shared.delete(key);
    await (await found.vms).end();
  };
}

/** Paths are absolute from here on: workers may be elsewhere. */
function optionsOf(project: TestProject): VmctlVitestOptions {
  const given = project.getProvidedContext()['vmctl:options'] ?? {};
  const cwd = resolve(project.config.root, given.cwd ?? '');
  const { artifacts = ARTIFACTS_FOLDER } = given;
  return { ...given, cwd, artifacts: artifacts === false ? false : resolve(cwd, artifacts) };
}
