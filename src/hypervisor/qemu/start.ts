/** How a stopped VM gets a QEMU that runs: its memory, its TAP device, its process, and the state that it goes on from. */
import { realpath, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { type LanSegment, lanSegment } from '../../model/lan.js';
import type { RunningVm, VmHandle } from '../../model/vm.js';
import { VM_FILES } from '../../paths.js';
import { type CommandRunner, startDetached } from '../../util/exec.js';
import { exists } from '../../util/fs.js';
import { identifyProcess } from '../../util/process.js';
import { waitFor } from '../../util/wait.js';
import type { StartMode } from '../hypervisor.js';
import type { AcceleratorChoice } from './accelerator.js';
import { parseUserNetwork, qemuArguments } from './command-line.js';
import { uefiCodeFor } from './firmware.js';
import { placeMemory, removeMemory } from './memory.js';
import { observeQemu } from './observe.js';
import { type Runtime, removePidfile, writeRuntime } from './process.js';
import { connectToVm } from './qmp.js';
import { endProcess } from './shutdown.js';
import { startError } from './start-error.js';
import { headerOf, restoreState } from './state.js';
import { attachTap, removeTap, tapOf } from './tap.js';

const START_TIMEOUT_MS = 30_000;

export interface StartOptions {
  readonly binary: string;
  readonly accelerator: AcceleratorChoice['accelerator'];
  readonly extraArguments: readonly string[];
  /** Where the leases of guests on a bridge are written down. */
  readonly leaseFiles: readonly string[];
  readonly mode: StartMode;
  /** Runs the host's `ip`. */
  readonly run: CommandRunner;
  readonly signal: AbortSignal;
}

/** Gives a QEMU that runs; of one that does not come to that nothing stays. */
export async function startQemu(handle: VmHandle, options: StartOptions): Promise<RunningVm> {
  const { binary, accelerator, extraArguments, mode, run } = options;
  const uefiCode = handle.spec.firmware === 'uefi' ? await uefiCodeFor(handle.directory, binary) : null;
  for (const name of [VM_FILES.qmpSocket, VM_FILES.consoleSocket, VM_FILES.portSocket, VM_FILES.pidfile]) {
    await rm(join(handle.directory, name), { force: true });
  }
  const hasSeed = await exists(join(handle.directory, VM_FILES.seed));
  const memory = await placeMemory(handle, mode);
  const awaits = mode.kind === 'restore' ? await headerOf(handle, mode.saved) : null;
  const segment = await segmentOf(handle);
  const machine = { accelerator, hasSeed, uefiCode, segment, memory, awaits, extraArguments };
  const words = qemuArguments(withForwards(handle, mode), machine);
  const tap = tapOf(handle.spec);
  const recorded = tap === null ? null : { name: tap.name, leaseFiles: [...options.leaseFiles] };
  const runtime = {
    pid: null,
    accelerator,
    forwards: null,
    tap: recorded,
    unplugged: mode.kind === 'restore' ? [...(mode.unplugged ?? [])] : [],
  };
  // Written first: a vmctl that is killed from here on leaves a trace that says "look for a QEMU".
  await writeRuntime(handle, runtime);
  if (tap !== null) await attachTap(tap, run);
  try {
    return await launch(handle, { words, runtime }, options);
  } catch (error) {
    if (tap !== null) await removeTap(tap.name, run);
    await removeMemory(handle);
    throw error;
  }
}

/** Gives a QEMU that runs; one that does not come to that is ended. */
async function launch(
  handle: VmHandle,
  start: { readonly words: readonly string[]; readonly runtime: Runtime },
  { binary, mode, run, signal }: StartOptions,
): Promise<RunningVm> {
  const logFile = join(handle.directory, VM_FILES.qemuLog);
  const child = await startDetached(binary, start.words, { cwd: handle.directory, logFile });
  const qemu = await identifyProcess(child.pid);
  try {
    const runtime = { ...start.runtime, pid: child.pid };
    await writeRuntime(handle, runtime);
    const forwards = await awaitQmp(handle, child.ended, signal);
    await writeRuntime(handle, { ...runtime, forwards: [...forwards] });
    if (mode.kind === 'restore') await restoreState(handle, mode, signal);
    const running = await observeQemu(handle, run);
    if (running.state === 'running') return running;
    throw await startError(handle, `QEMU is ${running.state} right after its start`);
  } catch (error) {
    if (qemu !== null) await endProcess(qemu);
    await removePidfile(handle);
    throw error;
  }
}

/** Waits until QEMU answers on QMP and tells its forwards, or has ended with a reason. */
async function awaitQmp(
  handle: VmHandle,
  ended: Promise<string>,
  signal: AbortSignal,
): Promise<Runtime['forwards'] & {}> {
  let end: string | null = null;
  void ended.then((how) => (end = how));
  const look = async () => {
    if (end !== null) throw await startError(handle, `QEMU ${end}`);
    using qmp = await connectToVm(handle).catch(() => null);
    return qmp === null ? null : { forwards: parseUserNetwork(await qmp.monitor('info usernet')) };
  };
  const found = await waitFor(look, { timeoutMs: START_TIMEOUT_MS, signal });
  if (found === null) throw await startError(handle, `QEMU did not answer on QMP for ${START_TIMEOUT_MS / 1000} s`);
  return [...found.forwards];
}

/** Symbolic links resolved, so that VMs of one folder meet by whatever path they were started. */
async function segmentOf({ spec, directory }: VmHandle): Promise<LanSegment | null> {
  const { network, project } = spec;
  if (network.kind !== 'user' || network.lan === null) return null;
  return lanSegment({ project, vms: await realpath(dirname(directory)), name: network.lan.name });
}

/** The same with the ports of this host that it is to have. */
function withForwards(handle: VmHandle, mode: StartMode): VmHandle {
  const { spec } = handle;
  if (mode.kind !== 'restore' || mode.forwards === undefined || spec.network.kind !== 'user') return handle;
  return { ...handle, spec: { ...spec, network: { ...spec.network, forwards: mode.forwards } } };
}
