/**
 * `vmctl/jest/environment`: Jest's environment for Node.js, with the VMs. It hands tests what they import as
 * `vmctl/jest`, and leaves artefacts when a test fails in a file that uses VMs.
 */
import { createRequire } from 'node:module';
import { join, relative } from 'node:path';
import { saveArtifacts } from '../testing/artifacts.js';
import { printLine } from '../testing/surroundings.js';
import * as client from './client.js';
import { beginFile, beginTest, endFile, endTest, usedFleet } from './fleet.js';
import { type JestProjectConfig, optionsOf } from './options.js';

/** What is used of an event of jest-circus. */
interface TestEvent {
  readonly name: string;
  readonly test?: TestEntry;
}

interface DescribeBlock {
  readonly name: string;
  readonly parent?: DescribeBlock | undefined;
}

interface TestEntry extends DescribeBlock {
  readonly errors: readonly unknown[];
}

export interface JestEnvironmentConfig {
  readonly projectConfig: JestProjectConfig;
}

export interface JestEnvironmentContext {
  readonly testPath: string;
}

export interface JestEnvironment {
  readonly global: object;
  handleTestEvent?(event: TestEvent, state: unknown): unknown;
  teardown?(): Promise<void>;
}

export type JestEnvironmentClass = new (
  config: JestEnvironmentConfig,
  context: JestEnvironmentContext,
) => JestEnvironment;

/** The environment of a project that asks for no other one. */
export default withVms(({ projectConfig: { rootDir } }) => nodeEnvironment(rootDir));

/** Gives another environment the VMs: `withVms(() => JsdomEnvironment)` with what `jest-environment-jsdom` exports. */
export function withVms(baseOf: (config: JestEnvironmentConfig) => JestEnvironmentClass) {
  // Jest calls it with `new`, and then only tells where the project is that its environment belongs to.
  return function VmctlEnvironment(config: JestEnvironmentConfig, context: JestEnvironmentContext): JestEnvironment {
    const environment = new (baseOf(config))(config, context);
    const theirs = environment.handleTestEvent?.bind(environment);
    const endTheirs = environment.teardown?.bind(environment);
    const options = optionsOf(config.projectConfig);
    const { artifacts } = options;
    const file = relative(config.projectConfig.rootDir, context.testPath);
    beginFile(options);
    Object.defineProperty(environment.global, Symbol.for('vmctl.jest'), { value: client });
    return Object.assign(environment, {
      handleTestEvent: async (event: TestEvent, state: unknown): Promise<void> => {
        await theirs?.(event, state);
        const { name, test } = event;
        if (name === 'test_start') await beginTest();
        if (name !== 'test_done' || test === undefined) return;
        endTest();
        const isWanted = test.errors.length > 0 && typeof artifacts === 'string';
        if (isWanted) await saveFailure({ folder: artifacts, file, name: fullName(test) });
      },
      teardown: async (): Promise<void> => {
        await endFile();
        await endTheirs?.();
      },
    });
  };
}

async function saveFailure(test: Parameters<typeof saveArtifacts>[1]): Promise<void> {
  const fleet = await usedFleet().catch(() => null);
  if (fleet === null) return;
  const path = await saveArtifacts(fleet, test);
  printLine(`"${test.name}" failed; its VMs are in ${relative('', path)}`);
}

/** Without the block around all of them. */
function fullName(test: TestEntry): string {
  const names: string[] = [];
  for (let at: DescribeBlock | undefined = test; at !== undefined; at = at.parent) {
    if (at.parent !== undefined) names.unshift(at.name);
  }
  return names.join(' ');
}

/** The one that belongs to the project's Jest: package managers need not put it where the project finds it. */
function nodeEnvironment(rootDir: string): JestEnvironmentClass {
  let from = createRequire(join(rootDir, 'package.json'));
  for (const dependency of ['jest', 'jest-cli', 'jest-config']) {
    from = createRequire(from.resolve(dependency));
  }
  const found: { readonly TestEnvironment: JestEnvironmentClass } = from('jest-environment-node');
  return found.TestEnvironment;
}
