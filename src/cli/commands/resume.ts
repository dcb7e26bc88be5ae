import { resumeTasks } from '../../../tasks/pause.js';
import type { CommandModule } from '../cli.js';
import { showGraph } from '../graph.js';
import { findEntries, openSession } from '../session.js';

export const command: CommandModule = {
  configure(program, cli) {
    program.argument('<name...>', 'VMs to continue').action(async (names: readonly string[]) => {
      const { env } = await openSession(cli, 'resume');
      const { entries, errors } = await findEntries(env, names);
      await showGraph(cli, env, resumeTasks(env, entries), { json: false, errors });
    });
  },
};
