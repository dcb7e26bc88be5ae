import { downTasks } from '../../../tasks/down.js';
import type { Cli, CommandModule } from '../cli.js';
import { showGraph } from '../graph.js';
import { durationOption } from '../options.js';
import { findEntries, openSession } from '../session.js';

export const command: CommandModule = {
  configure(program, cli) {
    program
      .argument('<name...>', 'VMs to stop')
      .option('--timeout <duration>', 'how long a guest may take to power off (default: 30s)', durationOption)
      .action((names: readonly string[], flags: { readonly timeout?: number }) => stop(cli, names, flags.timeout));
  },
};

async function stop(cli: Cli, names: readonly string[], timeout: number | undefined): Promise<void> {
  const { env } = await openSession(cli, 'stop');
  const { entries, errors } = await findEntries(env, names);
  const graceMs = (timeout ?? env.stopGraceSeconds) * 1000;
  const graph = await downTasks(env, { entries, destroy: false, graceMs });
  cli.onInterrupt = () => 'leaving what is not stopped yet as it is';
  await showGraph(cli, env, graph, { json: false, errors });
}
