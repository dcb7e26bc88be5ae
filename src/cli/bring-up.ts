/** What `up` and `reload` share: the VMs of the VMFile come up, and the end is told. */
import type { Command } from 'commander';
import { upTasks } from '../../tasks/up.js';
import { VmctlError } from '../errors.js';
import type { PullPolicy } from '../model/pull-policy.js';
import type { VmSpec } from '../model/spec.js';
import type { Cli } from './cli.js';
import { showGraph } from './graph.js';
import { BOOT_FIRST_OPTION, COLD_OPTION, PULL_OPTION, TIMELINE_OPTION, positiveOption, waitOption } from './options.js';
import { readProject } from './project.js';
import { selectWithDependencies } from '../../tasks/select-specs.js';
import { printError, printJsonLine, printNote } from './report.js';
import { type Session, openSession } from './session.js';
import { painter, wantsColor } from './style.js';

export interface BringUpFlags {
  readonly file?: string;
  readonly name: readonly string[];
  readonly provision: boolean;
  readonly parallel?: number;
  readonly bootFirst?: true;
  readonly timeout?: number;
  readonly pull?: PullPolicy;
  readonly cold: boolean;
  readonly json: boolean;
  readonly timeline?: string;
}

/** The options that say how VMs come up. */
export function withBringUpOptions(command: Command): Command {
  return command
    .option('--no-provision', 'create and start, but run no provisioners and do not wait until ready')
    .option('--parallel <n>', 'guests that boot at the same time (default: the number of cores)', positiveOption)
    .option(...BOOT_FIRST_OPTION)
    .option(...PULL_OPTION)
    .option(...COLD_OPTION)
    .option('--timeout <duration>', 'how long to wait for SSH of each VM, such as 90s or 5m', waitOption)
    .option(...TIMELINE_OPTION);
}

/** A session for the VMFile and the limits that the flags name. */
export function openProjectSession(
  cli: Cli,
  command: string,
  flags: Pick<Partial<BringUpFlags>, 'file' | 'parallel' | 'bootFirst' | 'pull' | 'cold'>,
): Promise<Session> {
  return openSession(cli, command, {
    ...(flags.file === undefined ? {} : { file: flags.file }),
    ...(flags.parallel === undefined ? {} : { 'concurrency.boots': flags.parallel }),
    ...(flags.bootFirst === undefined ? {} : { bootFirst: true }),
    ...(flags.pull === undefined ? {} : { 'images.pull': flags.pull }),
    ...(flags.cold === true ? { warm: 'off' as const } : {}),
  });
}

/** `anew`: the chosen VMs are destroyed first; what they depend on is not. */
export async function bringUp(
  cli: Cli,
  request: { readonly names: readonly string[]; readonly flags: BringUpFlags; readonly anew: boolean },
): Promise<void> {
  const { names, flags, anew } = request;
  const session = await openProjectSession(cli, anew ? 'reload' : 'up', flags);
  const project = await readProject(cli, session.settings);
  const { specs, errors, added } = selectWithDependencies(project.specs, names);
  if (added.length > 0) printNote(cli, `also bringing up ${added.map(({ name }) => name).join(', ')}, needed by these`);
  const chosen = specs.filter((spec) => !added.includes(spec)).map(({ name }) => name);
  const graph = upTasks(session.env, {
    specs: overrideTimeout(specs, flags.timeout),
    provision: flags.provision,
    anew: new Set(anew ? chosen : []),
    bootFirst: session.settings.bootFirst ?? false,
  });
  cli.onInterrupt = () => 'stopping what was begun';
  const show = () => showGraph(cli, session.env, graph, { json: flags.json, errors });
  const outcomes = await (flags.timeline === undefined
    ? show()
    : drawn(cli, session, { ...request, file: flags.timeline }, show));
  const counts = { up: 0, unchanged: 0, failed: errors.length };
  for (const { result } of outcomes.values()) counts[result === 'done' ? 'up' : result] += 1;
  if (flags.json) printJsonLine(cli, { type: 'result', ...counts });
  else printSummary(cli, counts);
}

/** Loaded only for those who want a picture. */
async function drawn<T>(
  cli: Cli,
  { env }: Session,
  { anew, file }: { readonly anew: boolean; readonly file: string },
  show: () => Promise<T>,
): Promise<T> {
  const { withTimeline } = await import('./timeline/file.js');
  return withTimeline(cli, { events: env.events, file, title: `vmctl ${anew ? 'reload' : 'up'}` }, show);
}

/** A flag has the last word, over the VMFile's own timeout too. */
export function overrideTimeout(specs: readonly VmSpec[], timeoutSeconds: number | undefined): readonly VmSpec[] {
  if (timeoutSeconds === undefined) return specs;
  return specs.map((spec) => ({ ...spec, ssh: { ...spec.ssh, timeoutSeconds } }));
}

function printSummary(cli: Cli, counts: { up: number; unchanged: number; failed: number }): void {
  if (cli.signal.aborted) {
    printError(cli, new VmctlError('ABORTED', 'interrupted', { hint: 'See what is left with: vmctl list' }));
    return;
  }
  const paint = painter(wantsColor(cli.stderr, cli.variables));
  const parts = [
    counts.up === 0 ? null : paint('green', `${counts.up} up`),
    counts.unchanged === 0 ? null : `${counts.unchanged} already up`,
    counts.failed === 0 ? null : paint('red', `${counts.failed} failed`),
  ];
  cli.stderr.write(`${parts.filter((part) => part !== null).join(', ')}\n`);
}
