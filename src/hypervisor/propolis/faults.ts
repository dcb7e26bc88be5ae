/** The reset button of a VM that runs on Propolis. */
import type { StageContext } from '../../model/event.js';
import type { VmHandle } from '../../model/vm.js';
import { type LiveServer, clientOf, isLive, startError } from './server.js';

/** Resets the VM; settles when it runs again. The server queues that, and numbers the states that it goes through. */
export async function pressReset(handle: VmHandle, server: LiveServer, { signal }: StageContext): Promise<void> {
  const client = clientOf(handle, server.address, { signal });
  const before = await client.monitor(0);
  await client.change('Reboot');
  for (let next = before.generation + 1; ; ) {
    const { generation, state } = await client.monitor(next);
    if (state === 'Running') return;
    if (!isLive(state)) throw await startError(handle, `the VM is ${state} right after its reset`);
    next = generation + 1;
  }
}
