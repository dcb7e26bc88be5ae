import { suspendTasks } from '../../../tasks/pause.js';
import { suspendToDiskTasks } from '../../../tasks/suspended.js';
import type { CommandModule } from '../cli.js';
import { showGraph } from '../graph.js';
import { findEntries, openSession } from '../session.js';

export const command: CommandModule = {
  configure(program, cli) {
    program
      .argument('<name...>', 'VMs to pause')
      .option('--to-disk', 'save their memory to the disk, and end their processes', false)
      .action(async (names: readonly string[], { toDisk }: { readonly toDisk: boolean }) => {
        const { env } = await openSession(cli, 'suspend');
        const { entries, errors } = await findEntries(env, names);
        const graph = toDisk ? suspendToDiskTasks(env, entries) : suspendTasks(env, entries);
        await showGraph(cli, env, graph, { json: false, errors });
      });
  },
};
