/**
 * Everything that an up is made of: what is declared, where the VMs are to live, the graph that brings them up, and what
 * becomes of them afterwards. The API, its listr2 tasks and `vmctl run` are three ways through it.
 */
import { createHash } from 'node:crypto';
import type { TaskEnvironment } from '../../tasks/context.js';
import { configured, createEnvironment } from '../../tasks/environment.js';
import { type ParsedProject, parseProject } from '../../tasks/parse.js';
import { specDigest } from '../../tasks/spec-digest.js';
import { selectWithDependencies } from '../../tasks/select-specs.js';
import { sweepLeftovers } from '../../tasks/sweep.js';
import { type TaskGraph, upTasks } from '../../tasks/up.js';
import type { VmOutcome } from '../../tasks/vm-run.js';
import { VmctlError } from '../errors.js';
import { type OwnedRun, baseOf, beginRun, beginWarmRun, sweepRuns } from '../lifetime/run.js';
import type { VmSpec } from '../model/spec.js';
import { type StatePaths, defaultStateRoot, statePaths } from '../paths.js';
import type { Settings } from '../settings/keys.js';
import { milliseconds } from './duration.js';
import { UpError, type UpFailure } from './errors.js';
import { type ConnectionFiles, machinesOf, ownedFleet, writeConnection } from './fleet.js';
import type { Machine } from './machine.js';
import { type Outside, outsideOf } from './outside.js';
import type { Fleet, ProjectOptions, UpOptions } from './types.js';

/** What is declared, and the settings that hold. Nothing is made yet. */
export interface OpenedProject {
  readonly outside: Outside;
  readonly settings: Settings;
  readonly project: ParsedProject;
  /** The VMs that are meant, with what they depend on. */
  readonly specs: readonly VmSpec[];
  /** The state directory that runs are made in. */
  readonly base: StatePaths;
}

/** Throws `VMFILE_INVALID` with every mistake, `VM_NOT_FOUND` for a name that is not declared. */
export async function openProject(options: ProjectOptions, given?: Outside): Promise<OpenedProject> {
  const outside = given ?? outsideOf(options);
  const { variables, home, cwd } = outside;
  const { loadSettings } = await import('../settings/load.js');
  const loaded = await loadSettings(outside);
  const settings: Settings = { ...loaded, ...(options.backend === undefined ? {} : { backend: options.backend }) };
  const { vms } = options;
  const declared = vms === undefined || isList(vms) ? undefined : vms;
  const project = await parseProject({
    file: options.file ?? settings.file,
    vms: declared,
    cwd,
    home,
    backend: settings.backend,
  });
  const { specs, errors } = selectWithDependencies(project.specs, isList(vms) ? vms : []);
  const [unknown] = errors;
  if (unknown !== undefined) throw unknown;
  const base = await baseOf(statePaths(defaultStateRoot(variables, home)));
  return { outside, settings, project, specs: options.lifetime === 'forever' ? specs : onFreePorts(specs), base };
}

function isList<N extends string>(vms: ProjectOptions<N>['vms']): vms is readonly N[] {
  return Array.isArray(vms);
}

/** Two runs at once must not want the same port, so each takes free ones; `port()` tells which. */
function onFreePorts(specs: readonly VmSpec[]): readonly VmSpec[] {
  return specs.map((spec) => {
    if (spec.network.kind !== 'user') return spec;
    const forwards = spec.network.forwards.map(({ guest }) => ({ host: 0, guest }));
    return { ...spec, network: { ...spec.network, forwards } };
  });
}

/** The world for a project's VMs in this state directory. */
export function environmentFor(
  { outside, settings }: Pick<OpenedProject, 'outside' | 'settings'>,
  paths: StatePaths,
  options: Pick<UpOptions, 'signal' | 'concurrency' | 'onEvent' | 'warm'> = {},
): TaskEnvironment {
  const { signal = new AbortController().signal, concurrency, onEvent, warm } = options;
  const common = configured(settings);
  const env = createEnvironment({
    ...common,
    ...outside,
    signal,
    paths,
    ...(warm === undefined ? {} : { warm: warm === true ? 'memory' : warm === false ? 'off' : warm }),
    // Who switches it off by the setting means every program.
    cold: common.cold === true || warm === false,
    concurrency: { ...common.concurrency, ...concurrency },
  });
  if (onEvent !== undefined) env.events.subscribe(onEvent);
  return env;
}

/** An up that is about to happen. Whoever has it runs the graph, and then calls `finish` or `abandon`. */
export interface PreparedUp<N extends string> {
  readonly env: TaskEnvironment;
  readonly graph: TaskGraph;
  readonly project: ParsedProject;
  /** The VMs, when all are up; else everything is undone, and `UpError` or `ABORTED` thrown. */
  finish(): Promise<FinishedUp<N>>;
  /** Undoes everything, unless it is to stay. */
  abandon(): Promise<void>;
}

export interface FinishedUp<N extends string> {
  readonly fleet: Fleet<N>;
  /** Writes how another process reaches the VMs. */
  writeConnection(): Promise<ConnectionFiles>;
}

export async function prepareUp<N extends string>(options: UpOptions<N>, given?: Outside): Promise<PreparedUp<N>> {
  const opened = await openProject(options, given);
  const specs = withTimeout(opened.specs, options.timeout);
  const home = await chooseHome(opened, specs, options);
  const env = environmentFor(opened, home.paths, options);
  await sweepLeftovers(env);
  const bootFirst = options.bootFirst ?? opened.settings.bootFirst ?? false;
  const graph = upTasks(env, { specs, provision: options.provision ?? true, bootFirst });
  const abandon = () => home.end();
  return {
    env,
    graph,
    project: opened.project,
    abandon,
    finish: async () => {
      try {
        throwFailures(await outcomesOf(graph));
        const machines = await machinesOf(
          env,
          specs.map(({ name }) => name),
        );
        await home.settle();
        return finished<N>(env, machines, abandon);
      } catch (error) {
        await abandon();
        throw error;
      }
    },
  };
}

function finished<N extends string>(
  env: TaskEnvironment,
  machines: ReadonlyMap<string, Machine>,
  end: () => Promise<void>,
): FinishedUp<N> {
  return { fleet: ownedFleet<N>(env, machines, end), writeConnection: () => writeConnection(env, machines) };
}

/** Where the VMs live, and for how long. */
type Home = Pick<OwnedRun, 'paths' | 'settle' | 'end'>;

async function chooseHome(
  { base, outside, settings, project }: OpenedProject,
  specs: readonly VmSpec[],
  options: UpOptions,
): Promise<Home> {
  if (options.lifetime === 'forever') {
    const { variables, home } = outside;
    const paths = statePaths(defaultStateRoot(variables, home));
    return { paths, settle: async () => {}, end: async () => {} };
  }
  const { command } = outside;
  await sweepRuns(base, command);
  const keep = options.keep ?? settings.keep ?? false;
  const run = { command, project: project.source.path, keep };
  if (!(options.reuse ?? settings.reuse ?? false)) return beginRun(base, run);
  const warm = await beginWarmRun(base, { ...run, slot: slotOf(project, specs), digest: await specDigest(specs) });
  // Somebody works with the warm ones: this run gets its own, and nobody waits.
  return warm ?? beginRun(base, run);
}

/** The place of a project's warm VMs: the same for the same file and names. */
export function slotOf({ source }: ParsedProject, specs: readonly VmSpec[]): string {
  const names = specs.map(({ name }) => name).toSorted();
  return createHash('sha256')
    .update(JSON.stringify([source.path, names]))
    .digest('hex')
    .slice(0, 8);
}

function withTimeout(specs: readonly VmSpec[], timeout: UpOptions['timeout']): readonly VmSpec[] {
  if (timeout === undefined) return specs;
  const timeoutSeconds = milliseconds(timeout, 'timeout') / 1000;
  return specs.map((spec) => ({ ...spec, ssh: { ...spec.ssh, timeoutSeconds } }));
}

async function outcomesOf(graph: TaskGraph): Promise<ReadonlyMap<string, VmOutcome>> {
  const outcomes = new Map<string, VmOutcome>();
  for (const [name, run] of graph.runs) outcomes.set(name, await run.ended);
  return outcomes;
}

function throwFailures(outcomes: ReadonlyMap<string, VmOutcome>): void {
  const failures = [...outcomes].flatMap(([vm, outcome]): readonly UpFailure[] =>
    outcome.result === 'failed' ? [{ vm, step: outcome.step, error: outcome.error }] : [],
  );
  if (failures.length === 0) return;
  // Those that were interrupted say nothing where others failed by themselves.
  const telling = failures.filter(({ error }) => error.code !== 'ABORTED');
  if (telling.length === 0) throw new VmctlError('ABORTED', 'interrupted', { cause: failures[0]?.error });
  throw new UpError(telling);
}
