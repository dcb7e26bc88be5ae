import { suspendTasks } from '../../../tasks/pause.js';
import type { CommandModule } from '../cli.js';
import { showGraph } from '../graph.js';
import { findEntries, openSession } from '../session.js';

export const command: CommandModule = {
  configure(program, cli) {
    program.argument('<name...>', 'VMs to pause').action(async (names: readonly string[]) => {
      const { env } = await openSession(cli, 'suspend');
      const { entries, errors } = await findEntries(env, names);
      await showGraph(cli, env, suspendTasks(env, entries), { json: false, errors });
    });
  },
};
