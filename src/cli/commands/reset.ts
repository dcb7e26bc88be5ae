import { resetTasks } from '../../../tasks/reset.js';
import type { CommandModule } from '../cli.js';
import { showGraph } from '../graph.js';
import { findEntries, openSession } from '../session.js';

export const command: CommandModule = {
  configure(program, cli) {
    program
      .argument('<name...>', 'VMs to reset')
      .option('--json', 'print the events as JSON, one object a line', false)
      .addHelpText(
        'after',
        '\nA VM can be reset when its VMFile says "warm": everything that happened in it since it was frozen is lost.',
      )
      .action(async (names: readonly string[], flags: { readonly json: boolean }) => {
        const { env } = await openSession(cli, 'reset');
        const { entries, errors } = await findEntries(env, names);
        await showGraph(cli, env, resetTasks(env, entries), { json: flags.json, errors });
      });
  },
};
