/** Jest's global teardown. Jest leaves it out when it is interrupted; the VMs end with the process in any case. */
import { type JestGlobalConfig, endRun } from './run.js';

export default async function teardown(globalConfig: JestGlobalConfig): Promise<void> {
  await endRun(globalConfig);
}
