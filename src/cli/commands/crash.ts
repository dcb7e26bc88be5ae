import { crashTasks } from '../../../tasks/crash.js';
import type { CommandModule } from '../cli.js';
import { showGraph } from '../graph.js';
import { findEntries, openSession } from '../session.js';

export const command: CommandModule = {
  configure(program, cli) {
    program
      .argument('<name...>', 'VMs whose power is cut')
      .option('--json', 'print events as JSON, one a line', false)
      .action(async (names: readonly string[], { json }: { readonly json: boolean }) => {
        const { env } = await openSession(cli, 'crash');
        const { entries, errors } = await findEntries(env, names);
        await showGraph(cli, env, crashTasks(env, entries), { json, errors });
      });
  },
};
