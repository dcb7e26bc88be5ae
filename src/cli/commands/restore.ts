import { restoreTasks } from '../../../tasks/snapshot.js';
import type { CommandModule } from '../cli.js';
import { showGraph } from '../graph.js';
import { findEntry, openSession } from '../session.js';

export const command: CommandModule = {
  configure(program, cli) {
    program
      .argument('<name>', 'the VM; what happened in it since is lost')
      .argument('<tag>', 'the snapshot')
      .option('--json', 'print the events as JSON, one object a line', false)
      .action(async (name: string, tag: string, { json }: { readonly json: boolean }) => {
        const { env } = await openSession(cli, 'restore');
        const graph = restoreTasks(env, { entry: await findEntry(env, name), tag });
        await showGraph(cli, env, graph, { json });
      });
  },
};
