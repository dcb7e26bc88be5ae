/**
 * `vmctl/node-test/setup`: what a module for `node --test --test-global-setup` exports, where Node.js has that. One set
 * of VMs, as the settings declare them, for all test files.
 */
import { giveConnection, givenConnection } from '../testing/surroundings.js';
import { type TestVms, startVms } from '../testing/vms.js';

let current: TestVms | null = null;
let before: string | null = null;

export async function globalSetup(): Promise<void> {
  before = givenConnection();
  current = await startVms({});
  giveConnection(await current.writeConnection());
}

export async function globalTeardown(): Promise<void> {
  const ending = current;
  current = null;
  giveConnection(before);
  await ending?.end();
}
