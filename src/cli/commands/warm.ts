import type { CommandModule } from '../cli.js';
import { ageOption, bytesOption } from '../options.js';
import { type WarmPruneFlags, listWarm, pruneWarm } from '../warm.js';

export const command: CommandModule = {
  configure(program, cli) {
    const add = (name: string, summary: string, examples: readonly [string, string]) =>
      program
        .command(name)
        .summary(summary)
        .description(
          `${summary.charAt(0).toUpperCase()}${summary.slice(1)}.\n\nExamples:\n  $ ${examples[0]}\n  $ ${examples[1]}`,
        )
        .option('--json', 'print JSON', false);
    add('list', 'list the VMs that were frozen after their provisioning', [
      'vmctl warm list',
      'vmctl warm list --json',
    ]).action((flags: { readonly json: boolean }) => listWarm(cli, flags.json));
    add('prune', 'remove frozen VMs that no VM stands on', [
      'vmctl warm prune --dry-run --older-than 7d',
      'vmctl warm prune --keep-size 0',
    ])
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
