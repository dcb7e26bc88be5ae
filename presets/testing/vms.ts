/** The VMs of a test run: brought up with words for whoever waits, handed on as a connection, and ended. */
import { join } from 'node:path';
import { type AttachedFleet, type Fleet, VmctlError, attach, up } from '../../src/index.js';
import { RUN_FILES } from '../../src/paths.js';
import { exists, writeFileAtomically } from '../../src/util/fs.js';
import { durationText } from '../../tasks/progress-text.js';
import type { TestVmsOptions } from './options.js';
import { plainProgress } from './progress.js';
import { givenConnection, printLine } from './surroundings.js';

/** VMs that this process has brought up, or that were there already. */
export interface TestVms {
  readonly fleet: AttachedFleet;
  /** Writes how another process reaches them, for their owner alone; gives the path, which `attach` takes. */
  writeConnection(): Promise<string>;
  /** Ends them, unless they are to stay. */
  end(): Promise<void>;
}

export interface StartOptions {
  /** Told what is going on, line by line; default on stderr. */
  readonly print?: (line: string) => void;
}

/**
 * Brings VMs up for a test run. Within `vmctl run`, and whatever else sets `VMCTL_CONNECTION`, they are the ones that
 * are there. Throws as `up` does.
 */
export async function startVms(options: TestVmsOptions, { print = printLine }: StartOptions = {}): Promise<TestVms> {
  const given = givenConnection();
  if (given === null) return bringUp(options, print);
  const fleet = await attach(given);
  print(`the tests use the VMs of ${given}: ${fleet.names.join(', ')}`);
  return { fleet, writeConnection: async () => given, end: () => fleet[Symbol.asyncDispose]() };
}

async function bringUp(options: TestVmsOptions, print: (line: string) => void): Promise<TestVms> {
  const { artifacts: _, ...upOptions } = options;
  const begun = performance.now();
  print('bringing up VMs for the tests');
  const progress = plainProgress(print);
  try {
    const fleet = await up({ ...upOptions, warm: upOptions.warm ?? true, onEvent: progress.onEvent });
    print(`${countText(fleet)} up after ${durationText(performance.now() - begun)}: ${fleet.names.join(', ')}`);
    return { fleet, writeConnection: () => writeConnection(fleet), end: () => end(fleet, print) };
  } catch (error) {
    // Test runners show the message of an error, and nothing of what belongs to it.
    if (error instanceof VmctlError) printError(error, print);
    throw error;
  } finally {
    progress.stop();
  }
}

/** Takes all of them back to how they were provisioned. Throws `UNSUPPORTED` where they were not frozen. */
export async function resetVms(fleet: AttachedFleet): Promise<void> {
  await Promise.all(fleet.names.map((name) => fleet.get(name).reset()));
}

function countText({ names }: Fleet): string {
  return names.length === 1 ? '1 VM' : `${names.length} VMs`;
}

async function writeConnection(fleet: Fleet): Promise<string> {
  const path = join(fleet.stateDirectory, RUN_FILES.connection);
  await writeFileAtomically(path, `${JSON.stringify(fleet.toJSON(), null, 2)}\n`);
  return path;
}

async function end(fleet: Fleet, print: (line: string) => void): Promise<void> {
  await fleet.down();
  const { stateDirectory } = fleet;
  if (await exists(stateDirectory)) print(`the VMs stay; to look at them: VMCTL_STATE=${stateDirectory} vmctl list`);
}

function printError(error: VmctlError, print: (line: string) => void): void {
  const text =
    error.render({ color: false }) ?? [error.message, error.details].filter((part) => part !== null).join('\n');
  for (const line of text.trimEnd().split('\n')) print(line);
  if (error.hint !== null) print(`hint: ${error.hint}`);
}
