import type { CommandModule } from '../cli.js';
import { type BringUpFlags, bringUp, withBringUpOptions } from '../bring-up.js';
import { FILE_OPTION, NAME_OPTION } from '../options.js';
import { VmctlError } from '../../errors.js';
import { showPlan } from '../plan.js';

export const command: CommandModule = {
  configure(program, cli) {
    const named = program
      .argument('[name...]', 'VMs to bring up, with what they depend on (default: all)')
      .option(...FILE_OPTION)
      .option(...NAME_OPTION)
      .option('--dry-run', 'print what would be done to each VM and why, and do nothing', false);
    withBringUpOptions(named)
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
