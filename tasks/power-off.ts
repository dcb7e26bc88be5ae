/** Asking a guest over SSH to power off, for a backend that has no button to press. */
import { VmctlError } from '../src/errors.js';
import type { Endpoint, VmHandle } from '../src/model/vm.js';
import { sshAccess } from './access.js';

/** As root, or as somebody who may become root without a password: the user that cloud-init makes may. */
const COMMAND = 'if [ "$(id -u)" = 0 ]; then poweroff; else sudo -n poweroff || doas -n poweroff; fi';

/** Gives what does it; settles when the guest was told. Throws when it cannot be logged in to, or refuses. */
export function powerOffBySsh(home: string) {
  return async (handle: VmHandle, endpoint: Endpoint, signal: AbortSignal): Promise<void> => {
    const target = { ...(await sshAccess(handle, { home })), endpoint };
    // Loaded when it is needed: every command knows of this way, and few go it.
    const { connectSsh } = await import('../src/ssh/client.js');
    await using connection = await connectSsh(target, { signal });
    try {
      const { exitCode } = await connection.exec(COMMAND, { signal });
      // Null where the guest was faster than its own answer.
      if (exitCode === 0 || exitCode === null) return;
      throw new VmctlError('EXEC_FAILED', `VM "${handle.name}" did not power off (exit code ${exitCode})`, {
        hint: `Its user ${target.user} needs sudo without a password for that.`,
        fields: { vm: handle.name, exitCode },
      });
    } catch (error) {
      // A guest that goes down takes the connection with it.
      if (!(error instanceof VmctlError) || error.code !== 'SSH_TRANSPORT') throw error;
    }
  };
}
