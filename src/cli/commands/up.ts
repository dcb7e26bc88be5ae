import { VmctlError } from '../../errors.js';
import type { VmSpec } from '../../model/spec.js';
import { type ParsedProject, parseProject } from '../../../tasks/parse.js';
import { upTasks } from '../../../tasks/up.js';
import { renderDiagnostics } from '../../vmfile/diagnostic.js';
import type { Cli, CommandModule } from '../cli.js';
import type { Settings } from '../config-keys.js';
import { showGraph } from '../graph.js';
import { collect, durationOption, positiveOption } from '../options.js';
import { printError, printJsonLine, printNote } from '../report.js';
import { openSession, unknownVm } from '../session.js';
import { painter, wantsColor } from '../style.js';

interface UpFlags {
  readonly file?: string;
  readonly name: readonly string[];
  readonly provision: boolean;
  readonly parallel?: number;
  readonly timeout?: number;
  readonly json: boolean;
}

export const command: CommandModule = {
  configure(program, cli) {
    program
      .argument('[name...]', 'VMs to bring up, with what they depend on (default: all)')
      .option('-f, --file <path>', 'the VMFile (default: VMFile.kdl in this folder)')
      .option('--name <name>', 'the same as the argument; may be repeated', collect, [])
      .option('--no-provision', 'create and start, but run no provisioners')
      .option('--parallel <n>', 'guests that boot at the same time (default: the number of cores)', positiveOption)
      .option('--timeout <duration>', 'how long to wait for SSH of each VM, such as 90s or 5m', durationOption)
      .option('--json', 'print the events as JSON, one object a line', false)
      .action((names: readonly string[], flags: UpFlags) => up(cli, [...names, ...flags.name], flags));
  },
};

async function up(cli: Cli, names: readonly string[], flags: UpFlags): Promise<void> {
  const settings: Partial<Settings> = {
    ...(flags.file === undefined ? {} : { file: flags.file }),
    ...(flags.parallel === undefined ? {} : { 'concurrency.boots': flags.parallel }),
  };
  const session = await openSession(cli, 'up', settings);
  const project = await parseProject({ file: session.settings.file, cwd: cli.cwd, home: cli.home });
  warn(cli, project);
  const { specs, errors } = selectWithDependencies(project.specs, names);
  const added = names.length === 0 ? [] : specs.filter((spec) => !names.includes(spec.name));
  if (added.length > 0) printNote(cli, `also bringing up ${added.map(({ name }) => name).join(', ')}, needed by these`);
  const graph = upTasks(session.env, { specs: overrideTimeout(specs, flags.timeout), provision: flags.provision });
  cli.onInterrupt = () => 'stopping what was begun';
  const outcomes = await showGraph(cli, session.env, graph, { json: flags.json, errors });
  const counts = { up: 0, unchanged: 0, failed: errors.length };
  for (const { result } of outcomes.values()) counts[result === 'done' ? 'up' : result] += 1;
  if (flags.json) printJsonLine(cli, { type: 'result', ...counts });
  else printSummary(cli, counts);
}

/** The chosen VMs and everything that they depend on, in the file's order; all when none is chosen. */
function selectWithDependencies(
  specs: readonly VmSpec[],
  names: readonly string[],
): { readonly specs: readonly VmSpec[]; readonly errors: readonly VmctlError[] } {
  if (names.length === 0) return { specs, errors: [] };
  const known = specs.map(({ name }) => name);
  const wanted = new Set(names.filter((name) => known.includes(name)));
  for (const name of wanted) {
    for (const dependency of specs.find((spec) => spec.name === name)?.dependsOn ?? []) wanted.add(dependency);
  }
  const unknown = [...new Set(names)].filter((name) => !known.includes(name));
  return {
    specs: specs.filter(({ name }) => wanted.has(name)),
    errors: unknown.map((name) => unknownVm(name, known, 'the VMFile has no VM')),
  };
}

/** A flag has the last word, over the VMFile's own timeout too. */
function overrideTimeout(specs: readonly VmSpec[], timeoutSeconds: number | undefined): readonly VmSpec[] {
  if (timeoutSeconds === undefined) return specs;
  return specs.map((spec) => ({ ...spec, ssh: { ...spec.ssh, timeoutSeconds } }));
}

function warn(cli: Cli, project: ParsedProject): void {
  if (project.warnings.length === 0) return;
  const color = wantsColor(cli.stderr, cli.variables);
  cli.stderr.write(`${renderDiagnostics(project.source, project.warnings, { color, cwd: cli.cwd })}\n`);
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
