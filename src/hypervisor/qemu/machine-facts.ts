/** What a machine's saved state depends on besides the VM: another QEMU, or another processor, cannot load it. */
import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import type { Accelerator } from '../../model/vm.js';
import type { CommandRunner } from '../../util/exec.js';
import { MACHINE, cpuModel } from './command-line.js';

interface MachineSetup {
  /** Absolute path of QEMU. */
  readonly binary: string;
  readonly accelerator: Exclude<Accelerator, 'none'>;
  readonly extraArguments: readonly string[];
  readonly run: CommandRunner;
  readonly signal: AbortSignal;
}

export async function machineFacts(setup: MachineSetup): Promise<Readonly<Record<string, string>>> {
  const { binary, accelerator, extraArguments, run, signal } = setup;
  const { stdout } = await run(binary, ['--version'], { signal });
  const model = cpuModel(accelerator);
  return {
    // With the distribution's own version: its firmware blobs are part of the machine.
    QEMU: stdout.split('\n')[0] ?? '',
    'machine type': MACHINE,
    accelerator,
    processor: model === 'host' ? `host ${await hostProcessor()}` : model,
    'qemu.extraArgs': extraArguments.join(' '),
  };
}

/** Which processor "host" stands for: everything in its description but its frequency of the moment. */
async function hostProcessor(): Promise<string> {
  const text = await readFile('/proc/cpuinfo', 'utf8').catch(() => '');
  const first = text.split('\n\n')[0] ?? '';
  const lasting = first
    .split('\n')
    .filter((line) => /^(?:vendor_id|cpu family|model|stepping|microcode|flags)/.test(line));
  return createHash('sha256').update(lasting.join('\n')).digest('hex').slice(0, 16);
}
