/**
 * Which accelerator do guests really run on? `/dev/kvm` may exist, open and be accepted by QEMU, and guests still do not
 * run on it: on some nested hosts they never execute an instruction, on others every instruction is emulated, far slower
 * than QEMU itself would, and on others QEMU gives up over a register. So a tiny guest that has some work to do is
 * started under KVM with a deadline, and the answer is remembered for this boot of the host and this QEMU binary.
 */
import { mkdtemp, open, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as v from 'valibot';
import { VmctlError } from '../../errors.js';
import type { Accelerator } from '../../model/vm.js';
import { type CommandRunner, runCommand } from '../../util/exec.js';
import { errorCode, isMissing, readTextIfPresent, writeFileAtomically } from '../../util/fs.js';
import { withLock } from '../../util/lock.js';
import { bootId } from '../../util/process.js';
import type { AcceleratorFacts, KvmState } from '../hypervisor.js';

export type AcceleratorWish = 'auto' | 'kvm' | 'tcg' | 'hvf';

export interface AcceleratorChoice {
  readonly accelerator: Exclude<Accelerator, 'none'>;
  /** Why it is not the fast one; null when it is, or when software emulation was asked for. */
  readonly reason: string | null;
}

export interface AcceleratorOptions {
  readonly wish: AcceleratorWish;
  /** Absolute path of the QEMU binary. */
  readonly binary: string;
  /** The file that remembers what was found out about this host. */
  readonly cacheFile: string;
  readonly signal?: AbortSignal;
  readonly run?: CommandRunner;
  readonly kvmDevice?: string;
  readonly platform?: NodeJS.Platform;
  /** Milliseconds since the epoch. */
  readonly now?: () => number;
}

/** A working KVM runs the probe in a fraction of a second; one that emulates takes minutes, a broken one for ever. */
const PROBE_DEADLINE_MS = 4_000;

/** What `isa-debug-exit` turns the probe's byte 0x10 into: (0x10 << 1) | 1. */
const PROBE_EXIT_CODE = 33;

/** Decides. Throws `HOST_UNSUPPORTED` when an accelerator was demanded that guests do not run on. */
export async function chooseAccelerator(options: AcceleratorOptions): Promise<AcceleratorChoice> {
  const facts = await examineAccelerator(options);
  if (!('problem' in facts)) return { accelerator: facts.accelerator, reason: facts.reason };
  throw new VmctlError('HOST_UNSUPPORTED', `KVM was asked for, but ${facts.problem}`, {
    hint: 'What helps is told by: vmctl doctor. Or set the accelerator to "auto" or "tcg" to run by software emulation, which is several times slower.',
  });
}

/** What `chooseAccelerator` decides, as facts. */
export async function examineAccelerator(options: AcceleratorOptions): Promise<AcceleratorFacts> {
  const { wish, platform = process.platform } = options;
  if (wish === 'tcg') return { accelerator: 'tcg', reason: null, kvm: null };
  if (wish === 'hvf' || (wish === 'auto' && platform === 'darwin')) {
    return { accelerator: 'hvf', reason: null, kvm: null };
  }
  const { kvm, problem } =
    platform === 'linux'
      ? await examineKvm(options)
      : { kvm: 'absent' as const, problem: `KVM does not exist on ${platform}` };
  if (problem === null) return { accelerator: 'kvm', reason: null, kvm };
  return wish === 'auto' ? { accelerator: 'tcg', reason: problem, kvm } : { problem, kvm };
}

interface KvmFacts {
  readonly kvm: KvmState;
  /** Why guests do not run on KVM here; null when they do. */
  readonly problem: string | null;
}

async function examineKvm(options: AcceleratorOptions): Promise<KvmFacts> {
  const device = options.kvmDevice ?? '/dev/kvm';
  try {
    await (await open(device, 'r+')).close();
  } catch (error) {
    return deviceProblem(device, error);
  }
  if (await rememberedProbe(options)) return { kvm: 'works', problem: null };
  return { kvm: 'broken', problem: `guests do not run on ${device} here: a probe guest did not finish` };
}

function deviceProblem(device: string, error: unknown): KvmFacts {
  const code = errorCode(error);
  if (isMissing(error) || code === 'ENXIO' || code === 'ENODEV') {
    const problem = `${device} does not exist (no hardware virtualisation, or the kvm module is not loaded)`;
    return { kvm: 'absent', problem };
  }
  if (code === 'EACCES' || code === 'EPERM') {
    const problem = `${device} may not be used by this user (${code})`;
    return { kvm: 'forbidden', problem };
  }
  const words = error instanceof Error ? error.message : String(error);
  return { kvm: 'unopenable', problem: `${device} cannot be opened: ${words}` };
}

const memorySchema = v.object({ key: v.string(), kvmWorks: v.boolean(), probedAt: v.number() });

/** A host that was too busy for the probe must not be slow until its next boot. */
const REFUSAL_HOLDS_MS = 3_600_000;

async function rememberedProbe(options: AcceleratorOptions): Promise<boolean> {
  const { now = Date.now } = options;
  const { size, mtimeMs } = await stat(options.binary);
  const key = [await bootId(), options.binary, size, mtimeMs].join(' ');
  const recall = async (): Promise<boolean | null> => {
    const text = await readTextIfPresent(options.cacheFile);
    const memory = v.safeParse(v.pipe(v.string(), v.parseJson(), memorySchema), text);
    if (!memory.success || memory.output.key !== key) return null;
    const { kvmWorks, probedAt } = memory.output;
    // Either way: a clock that was put back would hold it for as long as it was wrong.
    return kvmWorks || Math.abs(now() - probedAt) < REFUSAL_HOLDS_MS ? kvmWorks : null;
  };
  const known = await recall();
  if (known !== null) return known;
  const lock = { command: 'vmctl probing KVM', ...(options.signal ? { signal: options.signal } : {}) };
  return withLock(`${options.cacheFile}.lock`, lock, async () => {
    const meanwhile = await recall();
    if (meanwhile !== null) return meanwhile;
    const kvmWorks = await probe(options);
    await writeFileAtomically(options.cacheFile, `${JSON.stringify({ key, kvmWorks, probedAt: now() })}\n`);
    return kvmWorks;
  });
}

/**
 * Boots a sector that counts to 2^25 and then writes 0x10 to port 0x501, where `isa-debug-exit` makes QEMU exit. Being
 * loaded by the firmware is not enough of a test, and neither is another CPU model than the one that VMs get.
 */
async function probe(options: AcceleratorOptions): Promise<boolean> {
  const run = options.run ?? runCommand;
  const folder = await mkdtemp(join(tmpdir(), 'vmctl-probe-'));
  try {
    await writeFile(join(folder, 'boot.img'), probeSector());
    const arguments_ = [
      ...['-nodefaults', '-no-user-config', '-machine', 'q35', '-accel', 'kvm', '-cpu', 'host', '-m', '16M'],
      ...['-display', 'none', '-device', 'isa-debug-exit,iobase=0x501,iosize=2'],
      ...['-drive', 'file=boot.img,format=raw,if=ide'],
    ];
    const signal = options.signal ? { signal: options.signal } : {};
    await run(options.binary, arguments_, { cwd: folder, timeoutMs: PROBE_DEADLINE_MS, ...signal });
    return false;
  } catch (error) {
    if (error instanceof VmctlError && error.code === 'COMMAND_FAILED') {
      return error.fields['exitCode'] === PROBE_EXIT_CODE;
    }
    throw error;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/**
 * `mov ecx,1<<25; l: dec ecx; jnz l; mov al,0x10; mov dx,0x501; out dx,al; l2: hlt; jmp l2` and the boot signature, on a
 * disk of 1 MiB.
 */
export function probeSector(): Uint8Array {
  const disk = new Uint8Array(1024 * 1024);
  disk.set([0x66, 0xb9, 0, 0, 0, 0x02, 0x66, 0x49, 0x75, 0xfc]);
  disk.set([0xb0, 0x10, 0xba, 0x01, 0x05, 0xee, 0xf4, 0xeb, 0xfd], 10);
  disk.set([0x55, 0xaa], 510);
  return disk;
}
