import type { CommandModule } from '../cli.js';
import { type BringUpFlags, bringUp, withBringUpOptions } from '../bring-up.js';
import { FILE_OPTION, NAME_OPTION } from '../options.js';

export const command: CommandModule = {
  configure(program, cli) {
    const named = program
      .argument('[name...]', 'VMs to make anew (default: all of the VMFile); what they depend on is brought up')
      .option(...FILE_OPTION)
      .option(...NAME_OPTION);
    withBringUpOptions(named)
      .option('--json', 'print the events as JSON, one object a line', false)
      .action((names: readonly string[], flags: BringUpFlags) =>
        bringUp(cli, { names: [...names, ...flags.name], flags, anew: true }),
      );
  },
};
