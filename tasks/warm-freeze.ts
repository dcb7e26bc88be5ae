/** A VM that was just provisioned is frozen, and goes on from there. */
import { createReadStream, createWriteStream } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { VmctlError, toVmctlError } from '../src/errors.js';
import type { StageContext } from '../src/model/event.js';
import { lanOf } from '../src/model/lan.js';
import type { VmSpec } from '../src/model/spec.js';
import type { RunningVm, StoppedVm, VmHandle } from '../src/model/vm.js';
import { PRIVATE_FILE_MODE, VM_FILES } from '../src/paths.js';
import { prepareSaving } from '../src/provision/settle.js';
import { hasStepsForEach } from '../src/provision/step-plan.js';
import type { RegistryEntry } from '../src/registry.js';
import { exists, stateDirectoryError } from '../src/util/fs.js';
import { acquireLock } from '../src/util/lock.js';
import type { Components } from '../src/warm/key.js';
import { FROZEN_CONSOLE, beginFrozen, publishFrozen } from '../src/warm/store.js';
import type { TaskEnvironment } from './context.js';
import { awaitUsable, connectWhenReady } from './provision.js';
import { startVm } from './start.js';
import { stopVm } from './stop.js';
import { keepWithinBudget } from './warm-collect.js';
import { kindOf } from './warm-key.js';
import { makeRoom } from './warm-lookup.js';
import { restoreVm } from './warm-restore.js';

export interface FreezeJob {
  readonly vm: RunningVm;
  readonly entry: RegistryEntry;
  readonly spec: VmSpec;
  readonly key: string;
  readonly components: Components;
  /** What is to be kept. */
  readonly level: 'memory' | 'disk';
}

/** Freezes the VM and gives it running again. Whatever goes wrong is told in one line, and costs a boot at most. */
export async function freezeVm(env: TaskEnvironment, job: FreezeJob, context: StageContext): Promise<RunningVm> {
  const { key, vm } = job;
  const release = await tryLock(env, key);
  if (release === null) return skip(vm, 'another vmctl is freezing the same VM', context);
  let running: RunningVm = vm;
  try {
    const room = await makeRoom(env, key);
    if (room !== 'free') return skip(vm, ROOM_REASONS[room], context);
    const begun = performance.now();
    const prepared = await prepareGuest(env, job, context);
    const { level } = prepared;
    context.reporter.status('freezing it');
    const frozen = await freeze(env, { ...job, ...prepared }, context);
    context.reporter.status('going on from what was frozen');
    running = await goOn(env, { ...job, level }, frozen, context);
    const seconds = ((performance.now() - begun) / 1000).toFixed(1);
    const what = level === 'memory' ? 'memory and disk' : 'disk';
    context.reporter.log(
      `frozen with its ${what} in ${seconds} s, and going on from there; the next one starts from it`,
    );
  } catch (error) {
    if (context.signal.aborted) throw error;
    context.reporter.log(`it was not frozen, so the next one starts cold: ${toVmctlError(error).message}`);
    running = await bringBack(env, job, context);
  } finally {
    await release();
  }
  await keepWithinBudget(env, key).catch(() => {});
  return running;
}

const ROOM_REASONS = {
  taken: 'the same VM was frozen meanwhile',
  'in use': 'what is frozen already is damaged, and other VMs stand on it',
} as const;

function skip(vm: RunningVm, why: string, context: StageContext): RunningVm {
  context.reporter.log(`it is not frozen: ${why}`);
  return vm;
}

async function tryLock(env: TaskEnvironment, key: string): Promise<(() => Promise<void>) | null> {
  try {
    return await acquireLock(env.paths.frozenLock(key), { command: env.command, timeoutMs: 0 });
  } catch (error) {
    if (error instanceof VmctlError && error.code === 'LOCK_TIMEOUT') return null;
    throw error;
  }
}

interface PreparedGuest {
  /** A guest that cannot be told what it has to know when it goes on keeps its disk alone. */
  readonly level: 'memory' | 'disk';
  /** A program waits at its port to be told. */
  readonly listens: boolean;
}

async function prepareGuest(env: TaskEnvironment, job: FreezeJob, context: StageContext): Promise<PreparedGuest> {
  const { vm, spec, level } = job;
  if (!env.hypervisor.capabilitiesOf(vm.handle).guestAccess.supported) return { level, listens: false };
  await using connection = await connectWhenReady(env, vm, { spec }, context);
  const port = level === 'memory' ? env.hypervisor.guestPort(vm.handle) : null;
  const way = await prepareSaving(connection, port, { signal: context.signal });
  if (level === 'disk' || way.kind !== 'none') return { level, listens: way.kind === 'port' };
  context.reporter.log(`only its disk is frozen, so the next one boots: ${way.problem}`);
  return { level: 'disk', listens: false };
}

async function freeze(env: TaskEnvironment, job: FreezeJob & PreparedGuest, context: StageContext): Promise<StoppedVm> {
  const { vm, key, spec, entry, level, listens, components } = job;
  if (level === 'disk') {
    context.reporter.status('powering it off, so that its disk is complete');
    await stopVm(env, { handle: vm.handle, graceMs: env.stopGraceSeconds * 1000 }, context);
  }
  const now = await env.hypervisor.observe(vm.handle);
  const staging = await beginFrozen(env.paths, key);
  try {
    const stopped = await env.hypervisor.freeze(now, staging, context);
    const { steps, consoleStart } = await env.registry.record(entry);
    if (level === 'memory') await keepConsole(vm.handle, staging, consoleStart?.from ?? 0);
    const frozenAt = new Date().toISOString();
    const { project } = spec;
    const lanAddress = lanOf(vm.handle.spec)?.address ?? null;
    const guest = { hostname: spec.cloudInit?.hostname ?? null, mac: vm.handle.mac, lanAddress };
    const name = kindOf(spec);
    const description = { key, level, name, project, ...guest, frozenAt, listens, components, steps: [...steps] };
    await publishFrozen(env.paths, description);
    return stopped;
  } catch (error) {
    await rm(staging, { recursive: true, force: true });
    throw error;
  }
}

/** A VM that goes on from it has no console log of its own of what its guest has said since it booted. */
async function keepConsole({ directory }: VmHandle, folder: string, from: number): Promise<void> {
  const log = join(directory, VM_FILES.consoleLog);
  if (!(await exists(log))) return;
  const path = join(folder, FROZEN_CONSOLE);
  try {
    await pipeline(createReadStream(log, { start: from }), createWriteStream(path, { mode: PRIVATE_FILE_MODE }));
  } catch (error) {
    throw stateDirectoryError('write', path, error);
  }
}

async function goOn(
  env: TaskEnvironment,
  job: FreezeJob,
  frozen: StoppedVm,
  context: StageContext,
): Promise<RunningVm> {
  const stopped = await env.hypervisor.branch(frozen, env.paths.frozen(job.key), context);
  return restoreVm(env, { ...job, stopped }, context);
}

/** Whatever state it is in, it runs afterwards: it goes on, or boots from its disk, on which everything is done. */
async function bringBack(env: TaskEnvironment, job: FreezeJob, context: StageContext): Promise<RunningVm> {
  const { entry, key } = job;
  const record = await env.registry.record(entry);
  const handle: VmHandle = await env.registry.handle(entry);
  const half = record.warm?.settled === false;
  const observed = await env.hypervisor.observe(handle);
  if (observed.state === 'running' && !half) return observed;
  if (observed.state === 'suspended' && !half) return env.hypervisor.resume(observed, context);
  if (observed.state !== 'stopped') await env.hypervisor.stop(observed, { graceMs: 0 }, context);
  const running = await startVm(env, { stopped: { state: 'stopped', handle }, entry }, context);
  await awaitUsable(env, { vm: running, entry }, context);
  const provisioning = hasStepsForEach(job.spec) ? 'pending' : 'done';
  await env.registry.updateRecord(entry, { provisioning, warm: half ? { key, settled: true } : record.warm });
  return running;
}
