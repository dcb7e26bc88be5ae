/** The VMs of a run of Jest: between its global set-up and teardown, which are two modules of one process. */
import { giveConnection, givenConnection } from '../testing/surroundings.js';
import { type TestVms, startVms } from '../testing/vms.js';
import { type JestProjectConfig, optionsOf } from './options.js';

/** What is used of Jest's configuration of a run. */
export interface JestGlobalConfig {
  readonly watch: boolean;
  readonly watchAll: boolean;
}

let current: TestVms | null = null;
let before: string | null = null;

export async function beginRun(projectConfig: JestProjectConfig): Promise<void> {
  // In watch mode the VMs of the run before are still there.
  if (current !== null) return;
  const { isolate = 'run', ...options } = optionsOf(projectConfig);
  if (isolate !== 'run') return;
  before = givenConnection();
  current = await startVms(options);
  giveConnection(await current.writeConnection());
}

export async function endRun({ watch, watchAll }: JestGlobalConfig): Promise<void> {
  // The next run is about to come; the VMs end with this process.
  if (watch || watchAll) return;
  const ending = current;
  if (ending === null) return;
  current = null;
  giveConnection(before);
  await ending?.end();
}
