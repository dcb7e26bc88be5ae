import { deleteTasks, snapshotTasks } from '../../../tasks/snapshot.js';
import type { CommandModule } from '../cli.js';
import { showGraph } from '../graph.js';
import { findEntry, openSession } from '../session.js';

interface SnapshotFlags {
  readonly delete: boolean;
  readonly json: boolean;
}

export const command: CommandModule = {
  configure(program, cli) {
    program
      .argument('<name>', 'the VM, which goes on running')
      .argument('<tag>', 'what the snapshot is called')
      .option('--delete', 'remove the snapshot of that name', false)
      .option('--json', 'print the events as JSON, one object a line', false)
      .action(async (name: string, tag: string, flags: SnapshotFlags) => {
        const { env } = await openSession(cli, 'snapshot');
        const target = { entry: await findEntry(env, name), tag };
        const graph = flags.delete ? deleteTasks(env, target) : snapshotTasks(env, target);
        await showGraph(cli, env, graph, { json: flags.json });
      });
  },
};
