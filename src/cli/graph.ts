/** Runs a task graph with the view that fits the streams, and says how it ended. */
import type { VmctlError } from '../errors.js';
import type { TaskEnvironment } from '../../tasks/context.js';
import { runTasks } from '../../tasks/run.js';
import type { TaskGraph } from '../../tasks/up.js';
import type { VmOutcome } from '../../tasks/vm-run.js';
import type { Cli } from './cli.js';
import { exitCodeOfAll } from './exit-code.js';
import { lineListener, printError, printJsonLine, printNote } from './report.js';
import { wantsTree } from './style.js';

export interface GraphOptions {
  readonly json: boolean;
  /** Failures that were found before anything ran. */
  readonly errors?: readonly VmctlError[];
}

/** Sets the command's exit code; gives how each VM ended. */
export async function showGraph(
  cli: Cli,
  env: TaskEnvironment,
  graph: TaskGraph,
  options: GraphOptions,
): Promise<ReadonlyMap<string, VmOutcome>> {
  const tree = !options.json && wantsTree(cli.stderr, cli.variables);
  if (options.json) env.events.subscribe((event) => printJsonLine(cli, event));
  else if (!tree) env.events.subscribe(lineListener(cli, [...graph.runs.keys()]));
  const notes: string[] = [];
  env.events.subscribe((event) => {
    // What concerns the host has no place in a tree of VMs.
    if (tree && event.vm === null && event.type === 'log') notes.push(event.line);
  });
  await runTasks(graph.tasks, { view: tree ? 'tree' : 'silent' });
  for (const note of notes) printNote(cli, note);
  const outcomes = new Map<string, VmOutcome>();
  for (const [name, run] of graph.runs) outcomes.set(name, await run.ended);
  const failures = [...outcomes.values()].flatMap((outcome) => (outcome.result === 'failed' ? [outcome.error] : []));
  const errors = [...(options.errors ?? []), ...failures];
  for (const error of errors) {
    if (error.code !== 'ABORTED') printError(cli, error);
  }
  cli.exitCode = exitCodeOfAll(errors);
  return outcomes;
}
