/** The end of a VM by its own guest, which is asked over SSH: Propolis has no power button. */
import type { StageContext } from '../../model/event.js';
import type { RunningVm } from '../../model/vm.js';
import { waitFor } from '../../util/wait.js';
import { findSsh } from './guest-address.js';
import type { HostRunner } from './host-runner.js';
import type { PowerOff } from './options.js';
import { type LiveServer, awaitEnd } from './server.js';

export interface PowerOffOptions {
  /** How long the guest may take, in milliseconds. */
  readonly graceMs: number;
  /** Absent where nobody can ask. */
  readonly powerOff: PowerOff | undefined;
  readonly host: HostRunner;
  /** Called while it has not ended; must not fail. */
  readonly meanwhile: () => Promise<void>;
}

/** Asks until the guest has powered off; false when the grace is over first, or nobody can be asked. */
export async function askGuest(
  { handle }: RunningVm,
  server: LiveServer,
  options: PowerOffOptions,
  { signal, reporter }: StageContext,
): Promise<boolean> {
  const { graceMs, powerOff, host, meanwhile } = options;
  const deadline = performance.now() + graceMs;
  if (graceMs <= 0 || powerOff === undefined || !handle.spec.ssh.declared) return false;
  reporter.status(`asking the guest to power off, ${Math.ceil(graceMs / 1000)} s at most`);
  const stop = AbortSignal.any([signal, AbortSignal.timeout(Math.ceil(graceMs))]);
  // A guest that is still booting answers later; one that is going down already does not any more.
  const ask = async (): Promise<'asked' | 'ended' | null> => {
    if (await awaitEnd(handle, server, { timeoutMs: 0 })) return 'ended';
    const ssh = await findSsh(handle, host);
    if (ssh === null) return null;
    return powerOff(handle, ssh, stop).then(
      () => 'asked',
      () => null,
    );
  };
  const asked = await waitFor(ask, { timeoutMs: graceMs, signal });
  if (asked !== 'asked') return asked === 'ended';
  const timeoutMs = Math.max(0, deadline - performance.now());
  return awaitEnd(handle, server, { timeoutMs, signal, meanwhile });
}
