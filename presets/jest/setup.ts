/** Jest's global set-up: the VMs of the run. */
import type { JestProjectConfig } from './options.js';
import { beginRun } from './run.js';

export default async function setup(_globalConfig: unknown, projectConfig: JestProjectConfig): Promise<void> {
  await beginRun(projectConfig);
}
