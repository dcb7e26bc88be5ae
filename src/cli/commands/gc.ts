import type { CommandModule } from '../cli.js';
import { runCollection } from '../collection.js';
import { ageOption, bytesOption } from '../options.js';

interface GcFlags {
  readonly dryRun: boolean;
  readonly imagesOlderThan?: number;
  readonly imagesBudget?: number;
  readonly kept: boolean;
  readonly json: boolean;
}

export const command: CommandModule = {
  configure(program, cli) {
    program
      .option('-n, --dry-run', 'only say what would be removed and what that frees', false)
      .option('--images-older-than <age>', 'also images that no VM has used for so long, as 30d', ageOption)
      .option(
        '--images-budget <size>',
        'also images, the longest unused first, until the cache fits, as 20GiB (default: the setting images.budget)',
        bytesOption,
      )
      .option('--kept', 'also VMs of programs and vmctl run that are over, and were to stay', false)
      .option('--json', 'print JSON', false)
      .addHelpText(
        'after',
        '\nVMs of vmctl up, their disks, images that a VM stands on or that have a name, and everything that\na running vmctl works on are never removed.',
      )
      .action((flags: GcFlags) =>
        runCollection(cli, {
          command: 'gc',
          scope: 'all',
          kept: flags.kept,
          dryRun: flags.dryRun,
          json: flags.json,
          olderThan: flags.imagesOlderThan,
          budget: flags.imagesBudget,
        }),
      );
  },
};
