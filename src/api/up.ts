/** The functions of the API that bring VMs up and down, and look at what would be done. */
import { downTasks } from '../../tasks/down.js';
import { parseProject } from '../../tasks/parse.js';
import { plan as planOf } from '../../tasks/plan.js';
import { runTasks } from '../../tasks/run.js';
import { chooseByName, namesOf, unknownVm } from '../../tasks/select-specs.js';
import { specDigest } from '../../tasks/spec-digest.js';
import { readLease } from '../lifetime/lease.js';
import type { PlannedVm, UnplannedVm } from '../model/plan.js';
import type { VmSpec } from '../model/spec.js';
import { type StatePaths, defaultStateRoot, runPaths, statePaths } from '../paths.js';
import { type DiagnosticJson, diagnosticsToJson } from '../vmfile/diagnostic.js';
import { VMFILE_NAME } from '../vmfile/discover.js';
import { type Duration, milliseconds } from './duration.js';
import { UpError, type UpFailure } from './errors.js';
import { type Outside, outsideOf } from './outside.js';
import { type OpenedProject, environmentFor, openProject, prepareUp, slotOf } from './session.js';
import type { Fleet, FleetMembers, ProjectOptions, UpOptions } from './types.js';
import { resolve } from 'node:path';

/**
 * Brings VMs up, and gives them when every one is provisioned. Their life is bound to this process, unless the options
 * say otherwise: when it ends, by whatever means, a watchdog removes them within two seconds.
 *
 * Throws `VMFILE_INVALID` (with `diagnostics`) before anything is made, `UP_FAILED` (an `UpError` with `failures`) after
 * everything was removed again, and `ABORTED`.
 */
export async function up<const N extends string = string>(options: UpOptions<N> = {}): Promise<Fleet<N>> {
  return upIn(options);
}

/** @internal `up` in a given world; so are the others. */
export async function upIn<N extends string>(options: UpOptions<N>, outside?: Outside): Promise<Fleet<N>> {
  const prepared = await prepareUp(options, outside);
  try {
    await runTasks(prepared.graph.tasks, { view: 'silent' });
  } catch (error) {
    await prepared.abandon();
    throw error;
  }
  return (await prepared.finish()).fleet;
}

/** What `up` would do. */
export interface UpPlan {
  /** The VMFile; for VMs that are declared in code, a path that does not exist. */
  readonly file: string;
  /** In the order of the file; one that `up` would fail on has an `error`. */
  readonly vms: readonly (PlannedVm | UnplannedVm)[];
}

/** Tells what `up` with these options would do to each VM, and why. Changes nothing. Throws as `open`. */
export async function plan(options: UpOptions = {}): Promise<UpPlan> {
  return planIn(options);
}

/** @internal */
export async function planIn(options: UpOptions, outside?: Outside): Promise<UpPlan> {
  const opened = await openProject(options, outside);
  const env = environmentFor(opened, await placeOf(opened, options), options);
  const vms = await planOf(env, { specs: opened.specs, provision: options.provision ?? true });
  return { file: opened.project.source.path, vms };
}

/** The state directory that `up` would work in; one that does not exist for a run that is yet to be made. */
async function placeOf(opened: OpenedProject, options: UpOptions): Promise<StatePaths> {
  const { outside, settings, base, project, specs } = opened;
  if (options.lifetime === 'forever') return statePaths(defaultStateRoot(outside.variables, outside.home));
  const fresh = runPaths(base, '.none');
  if (!(options.reuse ?? settings.reuse ?? false)) return fresh;
  const warm = runPaths(base, `warm-${slotOf(project, specs)}`);
  const lease = await readLease(warm.root);
  return lease?.bound === 'warm' && lease.digest === (await specDigest(specs)) ? warm : fresh;
}

export interface DownOptions {
  /** The VMFile; default as for `up`. It is not read, so it may have mistakes, or be gone. */
  readonly file?: string | undefined;
  readonly cwd?: string | undefined;
  /** Default: all of the VMFile. */
  readonly vms?: readonly string[] | undefined;
  /** True: removes the VMs with every file of them. Default false. */
  readonly destroy?: boolean | undefined;
  /** How long a guest may take to power off; default by the settings, else 30 s. */
  readonly grace?: Duration | undefined;
  readonly signal?: AbortSignal | undefined;
}

/**
 * Ends the VMs of one `up`; or, given options, stops those that `vmctl up` and `lifetime: 'forever'` have made of a
 * VMFile. Throws `VM_NOT_FOUND`, and `UP_FAILED` naming those that would not stop.
 */
export async function down(target: Pick<FleetMembers, 'down'> | DownOptions = {}): Promise<void> {
  if ('down' in target) await target.down();
  else await downIn(target);
}

const STOP_GRACE_SECONDS = 30;

/** @internal */
export async function downIn(options: DownOptions, given?: Outside): Promise<void> {
  const outside = given ?? outsideOf(options);
  const { loadSettings } = await import('../settings/load.js');
  const settings = await loadSettings(outside);
  const project = resolve(outside.cwd, options.file ?? settings.file ?? VMFILE_NAME);
  const paths = statePaths(defaultStateRoot(outside.variables, outside.home));
  const env = environmentFor({ outside, settings }, paths, options);
  const own = (await env.registry.list()).filter((entry) => entry.project === project);
  const { vms, errors } = chooseByName(own, options.vms ?? [], (name) =>
    unknownVm(name, namesOf(own), `no VM of ${project} is called`),
  );
  const [unknown] = errors;
  if (unknown !== undefined) throw unknown;
  const entries = options.vms === undefined ? own : vms;
  const defaultMs = (settings['timeouts.stop'] ?? STOP_GRACE_SECONDS) * 1000;
  const graceMs = milliseconds(options.grace ?? defaultMs, 'grace');
  const graph = await downTasks(env, { entries, destroy: options.destroy ?? false, graceMs });
  await runTasks(graph.tasks, { view: 'silent' });
  const failures: UpFailure[] = [];
  for (const [vm, run] of graph.runs) {
    const outcome = await run.ended;
    if (outcome.result === 'failed') failures.push({ vm, step: outcome.step, error: outcome.error });
  }
  if (failures.length > 0) throw new UpError(failures, 'stop');
}

/** A VMFile without mistakes. */
export interface OpenedFile {
  /** Absolute path. */
  readonly file: string;
  /** Every decision made: defaults filled in, paths absolute. */
  readonly vms: readonly VmSpec[];
  /** What is allowed and yet probably not meant. */
  readonly warnings: readonly DiagnosticJson[];
}

/**
 * Reads and checks a VMFile, and does nothing else. Throws `VMFILE_NOT_FOUND`, or `VMFILE_INVALID` (a `VmFileError`),
 * whose `diagnostics` has every mistake.
 */
export async function open(file?: string, options: Pick<ProjectOptions, 'cwd'> = {}): Promise<OpenedFile> {
  const { cwd, home } = outsideOf(options);
  const { source, specs, warnings } = await parseProject({ file, cwd, home });
  return { file: source.path, vms: specs, warnings: diagnosticsToJson(source, warnings) };
}
