/** What this host offers for QEMU's machines, for somebody who asks before anything is run. */
import { toVmctlError } from '../../errors.js';
import { runCommand } from '../../util/exec.js';
import type { AcceleratorFacts, BackendFacts, ProgramFacts } from '../hypervisor.js';
import { type AcceleratorWish, examineAccelerator } from './accelerator.js';
import { findFirmware } from './firmware.js';

const VERSION_TIMEOUT_MS = 10_000;

interface Examination {
  readonly wish: AcceleratorWish;
  /** The file that remembers what was found out about this host. */
  readonly cacheFile: string;
  readonly signal: AbortSignal;
}

/** Finds out as much as it can; `findBinary` throws where there is no QEMU. Throws `ABORTED` at most. */
export async function examineQemuHost(findBinary: () => Promise<string>, options: Examination): Promise<BackendFacts> {
  let path: string;
  try {
    path = await findBinary();
  } catch (error) {
    const program = { found: false, name: 'QEMU', problem: toVmctlError(error).message } as const;
    return { program, accelerator: null, firmware: null };
  }
  const program = await examineProgram(path, options.signal);
  const firmware = { path: (await findFirmware({ qemuBinary: path }))?.code ?? null };
  return { program, firmware, accelerator: program.found ? await examineFor(path, options) : null };
}

async function examineFor(binary: string, options: Examination): Promise<AcceleratorFacts> {
  try {
    return await examineAccelerator({ ...options, binary });
  } catch (error) {
    const { code, message } = toVmctlError(error);
    if (code === 'ABORTED') throw error;
    return { problem: message, kvm: null };
  }
}

/** Asks a QEMU for its version. */
async function examineProgram(path: string, signal: AbortSignal): Promise<ProgramFacts> {
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
