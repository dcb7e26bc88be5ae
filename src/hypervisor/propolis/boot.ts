/** The requests that make a VM of a server that answers, and have it run. */
import { join } from 'node:path';
import { VmctlError } from '../../errors.js';
import type { VmHandle } from '../../model/vm.js';
import { VM_FILES } from '../../paths.js';
import { exists } from '../../util/fs.js';
import { waitFor } from '../../util/wait.js';
import { partsOf } from './belongings.js';
import { ensureRequest } from './instance-spec.js';
import type { Limits } from './options.js';
import { type LiveServer, clientOf, isLive, startError } from './server.js';
import { rawDevice } from './volumes.js';

export type BootOptions = Pick<Limits, 'answerMs' | 'runMs'> & { readonly signal: AbortSignal };

/** Settles when the VM runs. Throws `PROPOLIS` with what the server says where it comes to nothing, `ABORTED`. */
export async function bootVm(
  handle: VmHandle,
  server: LiveServer,
  { answerMs, runMs, signal }: BootOptions,
): Promise<void> {
  const parts = await partsOf(handle);
  const seed = join(handle.directory, VM_FILES.seed);
  const request = ensureRequest(handle.spec, {
    uuid: handle.uuid,
    disk: rawDevice(parts.disk),
    seed: (await exists(seed)) ? seed : null,
    vnic: parts.vnic?.name ?? null,
  });
  const client = clientOf(handle, server.address, { signal, timeoutMs: answerMs });
  try {
    await client.ensure(request);
    await client.change('Run');
  } catch (error) {
    if (!(error instanceof VmctlError) || error.fields['status'] !== 500) throw error;
    throw await startError(handle, error.message, error);
  }
  const look = async () => {
    const state = (await client.instance())?.state ?? 'Failed';
    return state === 'Creating' || state === 'Starting' ? null : state;
  };
  const state = await waitFor(look, { timeoutMs: runMs, signal });
  if (state === null) throw await startError(handle, `the VM did not come to run within ${runMs / 1000} s`);
  if (!isLive(state)) throw await startError(handle, `the VM is ${state} right after its start`);
}
