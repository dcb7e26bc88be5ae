/** The QEMU binary: whether it runs, and which version it is. */
import { toVmctlError } from '../../errors.js';
import { runCommand } from '../../util/exec.js';
import type { ProgramFacts } from '../hypervisor.js';

const VERSION_TIMEOUT_MS = 10_000;

/** Asks a QEMU for its version. Throws `ABORTED` at most. */
export async function examineProgram(path: string, signal: AbortSignal): Promise<ProgramFacts> {
  try {
    const { stdout } = await runCommand(path, ['--version'], { signal, timeoutMs: VERSION_TIMEOUT_MS });
    const version = /QEMU emulator version (\d+(?:\.\d+)+)/.exec(stdout)?.[1];
    if (version !== undefined) return { found: true, path, version };
    return { found: false, name: path, problem: `${path} does not tell its version as QEMU does` };
  } catch (error) {
    const { code, message } = toVmctlError(error);
    if (code === 'ABORTED') throw error;
    return { found: false, name: path, problem: message };
  }
}
