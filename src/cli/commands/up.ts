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
import { VmctlError } from '../../errors.js';
import { showPlan } from '../plan.js';

export const command: CommandModule = {
  configure(program, cli) {
    program
      .argument('[name...]', 'VMs to bring up, with what they depend on (default: all)')
      .option(...FILE_OPTION)
      .option('--name <name>', 'the same as the argument; may be repeated', collect, [])
      .option('--dry-run', 'print what would be done to each VM and why, and do nothing', false)
      .option('--no-provision', 'create and start, but run no provisioners and do not wait until ready')
      .option('--parallel <n>', 'guests that boot at the same time (default: the number of cores)', positiveOption)
      .option(...BOOT_FIRST_OPTION)
      .option(...PULL_OPTION)
      .option(...COLD_OPTION)
      .option('--timeout <duration>', 'how long to wait for SSH of each VM, such as 90s or 5m', waitOption)
      .option(...TIMELINE_OPTION)
      .option('--json', 'print the events as JSON, one object a line; with --dry-run one document', false)
      .action((arguments_: readonly string[], flags: BringUpFlags & { readonly dryRun: boolean }) => {
        const names = [...arguments_, ...flags.name];
        if (flags.dryRun && flags.timeline !== undefined) {
          throw new VmctlError('USAGE', '--timeline draws what happened, and with --dry-run nothing does', {
            hint: 'Leave out one of the two.',
          });
        }
        return flags.dryRun ? showPlan(cli, names, flags) : bringUp(cli, { names, flags, anew: false });
      });
  },
};
