import type { CommandModule } from '../cli.js';
import { type BringUpFlags, bringUp } from '../bring-up.js';
import {
  BOOT_FIRST_OPTION,
  COLD_OPTION,
  FILE_OPTION,
  PULL_OPTION,
  TIMELINE_OPTION,
  collect,
  waitOption,
  positiveOption,
} from '../options.js';

export const command: CommandModule = {
  configure(program, cli) {
    program
      .argument('[name...]', 'VMs to make anew (default: all of the VMFile); what they depend on is brought up')
      .option(...FILE_OPTION)
      .option('--name <name>', 'the same as the argument; may be repeated', collect, [])
      .option('--no-provision', 'create and start, but run no provisioners and do not wait until ready')
      .option('--parallel <n>', 'guests that boot at the same time (default: the number of cores)', positiveOption)
      .option(...BOOT_FIRST_OPTION)
      .option(...PULL_OPTION)
      .option(...COLD_OPTION)
      .option('--timeout <duration>', 'how long to wait for SSH of each VM, such as 90s or 5m', waitOption)
      .option(...TIMELINE_OPTION)
      .option('--json', 'print the events as JSON, one object a line', false)
      .action((names: readonly string[], flags: BringUpFlags) =>
        bringUp(cli, { names: [...names, ...flags.name], flags, anew: true }),
      );
  },
};
