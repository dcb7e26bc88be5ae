import type { CommandModule } from '../cli.js';
import { addSubcommand } from '../help.js';
import { ageOption, bytesOption } from '../options.js';
import { type WarmPruneFlags, listWarm, pruneWarm } from '../warm.js';

export const command: CommandModule = {
  configure(program, cli) {
    addSubcommand(program, 'list', {
      summary: 'list the VMs that were frozen after their provisioning',
      examples: ['vmctl warm list', 'vmctl warm list --json'],
    }).action((flags: { readonly json: boolean }) => listWarm(cli, flags.json));
    addSubcommand(program, 'prune', {
      summary: 'remove frozen VMs that no VM stands on',
      examples: ['vmctl warm prune --dry-run --older-than 7d', 'vmctl warm prune --keep-size 0'],
    })
      .option('-n, --dry-run', 'only say what would be removed and what that frees', false)
      .option('--older-than <age>', 'those that no VM was started from for so long, as 7d', ageOption)
      .option(
        '--keep-size <size>',
        'the longest unused, until so much is left, as 20GiB (default: the setting snapshots.budget)',
        bytesOption,
      )
      .action((flags: WarmPruneFlags) => pruneWarm(cli, flags));
  },
};
