import { bytesText } from '../../../tasks/progress-text.js';
import { snapshotsOf } from '../../../tasks/snapshot.js';
import type { CommandModule } from '../cli.js';
import { printError, printJson, printNote, table } from '../report.js';
import { exitCodeOfAll } from '../exit-code.js';
import { findEntries, openReader } from '../session.js';

export const command: CommandModule = {
  configure(program, cli) {
    program
      .argument('[name...]', 'VMs (default: all)')
      .option('--json', 'print JSON', false)
      .action(async (names: readonly string[], { json }: { readonly json: boolean }) => {
        const env = openReader(cli, 'snapshots');
        const all =
          names.length === 0 ? { entries: await env.registry.list(), errors: [] } : await findEntries(env, names);
        const found = await snapshotsOf(all.entries);
        const rows = found.map(({ vm, tag, takenAt, bytes, folder }) => ({ vm, tag, takenAt, bytes, folder }));
        if (json) printJson(cli, { snapshots: rows });
        else if (rows.length === 0) printNote(cli, 'there are no snapshots; make one with: vmctl snapshot NAME TAG');
        else {
          const cells = rows.map(({ vm, tag, takenAt, bytes }) => [vm, tag, takenAt, bytesText(bytes)]);
          cli.stdout.write(table(['VM', 'SNAPSHOT', 'TAKEN', 'SIZE'], cells));
        }
        for (const error of all.errors) printError(cli, error);
        cli.exitCode = exitCodeOfAll(all.errors);
      });
  },
};
