/** Provision: the guest is waited for, the steps of the VMFile are run in it, in order, and then it has to be ready. */
import { join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import type { StageContext } from '../src/model/event.js';
import { type ProvisionStep, type StepSuccess, type VmSpec, stepTitle } from '../src/model/spec.js';
import type { ProvisionedVm, RunningVm } from '../src/model/vm.js';
import { VM_FILES } from '../src/paths.js';
import type { RegistryEntry } from '../src/registry.js';
import { joinLan } from '../src/provision/lan.js';
import type { ReadinessOptions } from '../src/provision/readiness.js';
import { runSteps } from '../src/provision/provisioner.js';
import { hasStepsForEach } from '../src/provision/step-plan.js';
import { type StepCounts, type StepMemory, runInOrder } from '../src/provision/step-sequence.js';
import type { SshConnection } from '../src/ssh/client.js';
import { tailOfFile } from '../src/util/exec.js';
import { sshAccess } from './access.js';
import { assertPluggedIn } from './cable.js';
import type { TaskEnvironment } from './context.js';
import { currentLan } from './lan.js';
import { awaitReady, awaitReadyAgain, defaultWaitSeconds, hasLogin, pausedError } from './ready.js';

const CONSOLE_TAIL_LINES = 20;

export interface ProvisionJob extends Pick<StepMemory, 'phase'> {
  readonly vm: RunningVm;
  readonly entry: RegistryEntry;
  /** What the VMFile declares now; it may have other steps than when the VM was prepared. */
  readonly spec: VmSpec;
  /** False: only wait until the guest can be logged in to, and until it is ready. */
  readonly runSteps: boolean;
  /** Called when the guest answers: its boot is over. Awaited before anything is done in it. */
  readonly onBooted: () => Promise<void> | void;
}

/**
 * Provisions the VM, waits until it is ready, and records what succeeded; gives how it went, in a few words. The caller
 * holds the VM's lock.
 */
export async function provisionRecorded(
  env: TaskEnvironment,
  job: ProvisionJob,
  context: StageContext,
): Promise<string> {
  const { vm, entry, spec, phase = 'all' } = job;
  const { steps: history } = await env.registry.record(entry);
  const remember = (steps: readonly StepSuccess[]) => env.registry.updateRecord(entry, { steps });
  await using connection = await logIn(env, vm, spec, context);
  await job.onBooted();
  const { stepsRun, stepsSkipped } = await provisionVm(env, { ...job, connection, history, remember }, context);
  const isLast = phase !== 'common' || !hasStepsForEach(spec);
  if (isLast) {
    await awaitReady(env, { vm, entry, spec, connection }, context);
    const hosts = spec.ssh.declared ? (currentLan(vm.handle, spec)?.identity.hosts ?? null) : null;
    await env.registry.updateRecord(entry, { provisioning: 'done', hosts, lastFailure: null });
  }
  const parts = [
    `${stepsRun} ${stepsRun === 1 ? 'step' : 'steps'} run`,
    ...(stepsSkipped === 0 ? [] : [`${stepsSkipped} skipped`]),
    ...(spec.ready === null || !isLast ? [] : ['ready']),
  ];
  return parts.join(', ');
}

/** `connection` is null where nobody is to be able to log in: then there is nothing to do. */
async function provisionVm(
  env: TaskEnvironment,
  job: Omit<ProvisionJob, 'onBooted'> & StepMemory & { readonly connection: SshConnection | null },
  context: StageContext,
): Promise<ProvisionedVm> {
  const { vm, spec, connection, history, remember, phase = 'all' } = job;
  const steps = job.runSteps ? spec.provision : [];
  if (!hasGuest(env, vm)) return provisioned(vm, await pretend(steps, job, context));
  if (connection === null) return provisioned(vm, { run: 0, skipped: 0 });
  const lan = currentLan(vm.handle, spec);
  if (lan !== null) await joinLan(connection, lan, context);
  const logFile = join(vm.handle.directory, VM_FILES.provisionLog);
  const own = lan?.variables ?? {};
  // In a group, what is not for each VM is the same in all of them.
  const variables = spec.group === null ? { variables: own } : { ownVariables: own };
  const index = spec.group?.index ?? 1;
  const memory = { history, remember, phase };
  const counts = await runSteps(connection, steps, {
    name: spec.name,
    index,
    ...variables,
    logFile,
    ...memory,
    ...context,
  });
  return provisioned(vm, counts);
}

/** Tells a VM that is up and provisioned who is on its LAN by now; gives whether that was news. */
export async function refreshLan(
  env: TaskEnvironment,
  job: { readonly vm: RunningVm; readonly entry: RegistryEntry; readonly spec: VmSpec },
  context: StageContext,
): Promise<boolean> {
  const { vm, entry, spec } = job;
  const lan = spec.ssh.declared ? currentLan(vm.handle, spec) : null;
  if (lan === null) return false;
  const { hosts } = await env.registry.record(entry);
  if (isDeepStrictEqual(hosts, lan.identity.hosts)) return false;
  if (env.hypervisor.capabilitiesOf(vm.handle).guestAccess.supported) {
    await using connection = await connectWhenReady(env, vm, { spec }, context);
    await joinLan(connection, lan, context);
  }
  await env.registry.updateRecord(entry, { hosts: lan.identity.hosts });
  return true;
}

/** A guest that goes on from before knows the LAN of that time: it is told again what it was told last, or who is declared. */
export async function rejoinLan(
  env: TaskEnvironment,
  job: {
    readonly vm: RunningVm;
    readonly entry: RegistryEntry;
    readonly spec: VmSpec;
    readonly connection: SshConnection;
  },
  context: StageContext,
): Promise<void> {
  const { vm, entry, spec, connection } = job;
  const lan = currentLan(vm.handle, spec);
  if (lan === null) return;
  const hosts = (await env.registry.record(entry)).hosts ?? lan.identity.hosts;
  await joinLan(connection, { ...lan, identity: { ...lan.identity, hosts } }, context);
  await env.registry.updateRecord(entry, { hosts });
}

function provisioned(vm: RunningVm, { run, skipped }: StepCounts): ProvisionedVm {
  return { vm, stepsRun: run, stepsSkipped: skipped };
}

function hasGuest(env: TaskEnvironment, { handle }: RunningVm): boolean {
  return env.hypervisor.capabilitiesOf(handle).guestAccess.supported;
}

/** Null where there is no guest, or nobody is to be able to log in to it. */
async function logIn(
  env: TaskEnvironment,
  vm: RunningVm,
  spec: VmSpec,
  context: StageContext,
): Promise<SshConnection | null> {
  return hasGuest(env, vm) && hasLogin(spec) ? connectWhenReady(env, vm, { spec }, context) : null;
}

/**
 * Waits for a VM that was started without its VMFile: until somebody can log in, where somebody is to be able to, and
 * until it is ready, where an `up` has waited for that: a VM that was never provisioned may never be. The caller holds
 * the VM's lock.
 */
export async function awaitUsable(
  env: TaskEnvironment,
  { vm, entry }: { readonly vm: RunningVm; readonly entry: RegistryEntry },
  context: StageContext,
): Promise<void> {
  const { spec } = vm.handle;
  await using connection = await logIn(env, vm, spec, context);
  await awaitReadyAgain(env, { vm, entry, connection }, context);
}

/** A guest that goes on from saved memory answers within seconds, or never. */
const ANSWER_SECONDS = 45;

interface Waited {
  /** As declared now. */
  readonly spec: VmSpec;
  /** From saved memory. By default it boots, and may take as long as the spec says. */
  readonly goesOn?: boolean;
}

/** Waits for the SSH banner, the pinned host key and a login that works. */
export async function connectWhenReady(
  env: TaskEnvironment,
  vm: RunningVm,
  waited: Waited,
  context: StageContext,
): Promise<SshConnection> {
  const { waitUntilReady } = await sshReadiness();
  return waitUntilReady(await readinessOf(env, vm, waited, context));
}

/** Waits for the SSH banner and the pinned host key, in a guest whose login has worked before. */
export async function verifyWhenReady(
  env: TaskEnvironment,
  vm: RunningVm,
  waited: Waited,
  context: StageContext,
): Promise<void> {
  const { waitUntilVerified } = await sshReadiness();
  await waitUntilVerified(await readinessOf(env, vm, waited, context));
}

/** Loaded when there is a guest to wait for: an SSH client takes longer to load than an `up` of VMs that run takes. */
const sshReadiness = () => import('../src/provision/readiness.js');

async function readinessOf(
  env: TaskEnvironment,
  vm: RunningVm,
  { spec, goesOn = false }: Waited,
  context: StageContext,
): Promise<ReadinessOptions> {
  const { handle } = vm;
  const catchUpConsole = () => env.hypervisor.catchUpConsole(handle, context.signal).catch(() => {});
  const observe = async () => {
    // A guest that powers itself off may take with it what it said.
    await catchUpConsole();
    const now = await env.hypervisor.observe(handle);
    if (now.state === 'suspended') throw pausedError(spec.name, now);
    assertPluggedIn(now);
    return now.state === 'stopped' ? null : now;
  };
  // A forward stays what it is; the address of a guest on a bridge may be that of its run before.
  const fixed = handle.spec.network.kind === 'user' ? vm.ssh : null;
  return {
    name: spec.name,
    target: await sshAccess({ ...handle, spec: { ...handle.spec, ssh: spec.ssh } }, { home: env.home }),
    locate: async () => fixed ?? (await observe())?.ssh ?? null,
    stillRunning: async () => (await observe()) !== null,
    consoleTail: async () => {
      await catchUpConsole();
      return tailOfFile(join(handle.directory, VM_FILES.consoleLog), CONSOLE_TAIL_LINES);
    },
    goesOn,
    timeoutMs: (goesOn ? ANSWER_SECONDS : readySeconds(env, vm, spec)) * 1000,
    ...context,
  };
}

function readySeconds(env: TaskEnvironment, vm: RunningVm, spec: VmSpec): number {
  const declared = spec.ssh.timeoutSeconds ?? env.sshTimeoutSeconds;
  return declared ?? defaultWaitSeconds(vm);
}

/** Where there is no guest, each step is told and nothing is done. */
function pretend(
  steps: readonly ProvisionStep[],
  { history, remember, phase = 'all' }: StepMemory,
  context: StageContext,
): Promise<StepCounts> {
  const total = steps.length;
  return runInOrder(steps, { history, remember, phase, ...context }, async (step, number) => {
    const title = stepTitle(step);
    context.reporter.status(`step ${number}/${total}: ${title} (not run: this backend has no guests)`, {
      kind: 'provision-step',
      number,
      total,
      title,
    });
  });
}
