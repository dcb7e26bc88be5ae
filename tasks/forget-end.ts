/** How a VM ended is of no use any more where it goes on from something else. */
import type { VmHandle } from '../src/model/vm.js';
import { forgetPowerCut } from './crash.js';
import { forgetRequest } from './stop.js';
import { forgetSuspended } from './suspended.js';

/** For a VM that is about to go on from memory that was kept, and not from where it ended. */
export async function forgetEnd(handle: VmHandle): Promise<void> {
  await forgetRequest(handle);
  await forgetPowerCut(handle);
  await forgetSuspended(handle);
}
