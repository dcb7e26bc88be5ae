import { startTasks } from '../../../tasks/start-again.js';
import type { Cli, CommandModule } from '../cli.js';
import { showGraph } from '../graph.js';
import { findEntries, openSession } from '../session.js';

export const command: CommandModule = {
  configure(program, cli) {
    program.argument('<name...>', 'VMs to start').action((names: readonly string[]) => start(cli, names));
  },
};

async function start(cli: Cli, names: readonly string[]): Promise<void> {
  const { env } = await openSession(cli, 'start');
  const { entries, errors } = await findEntries(env, names);
  cli.onInterrupt = () => 'stopping what was begun';
  await showGraph(cli, env, startTasks(env, entries), { json: false, errors });
}
