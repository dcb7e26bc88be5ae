import { parseProject } from '../../../tasks/parse.js';
import { diagnosticsToJson, renderDiagnostics } from '../../vmfile/diagnostic.js';
import { VmFileError } from '../../vmfile/error.js';
import type { Cli, CommandModule } from '../cli.js';
import { EXIT } from '../exit-code.js';
import { FILE_OPTION } from '../options.js';
import { printJson } from '../report.js';
import { loadSettings } from '../../settings/load.js';
import { wantsColor } from '../style.js';

interface ValidateFlags {
  readonly file?: string;
  readonly json: boolean;
}

export const command: CommandModule = {
  configure(program, cli) {
    program
      .option(...FILE_OPTION)
      .option('--json', 'print the findings as JSON', false)
      .action((flags: ValidateFlags) => validate(cli, flags));
  },
};

async function validate(cli: Cli, flags: ValidateFlags): Promise<void> {
  const file = flags.file ?? (await loadSettings(cli)).file;
  try {
    const { source, specs, warnings } = await parseProject({ file, cwd: cli.cwd, home: cli.home });
    const names = specs.map(({ name }) => name);
    if (flags.json) {
      const diagnostics = diagnosticsToJson(source, warnings);
      printJson(cli, { file: source.path, valid: true, vms: names, diagnostics });
      return;
    }
    if (warnings.length > 0) {
      const color = wantsColor(cli.stderr, cli.variables);
      cli.stderr.write(`${renderDiagnostics(source, warnings, { color, cwd: cli.cwd })}\n`);
    }
    cli.stderr.write(
      `${source.path} is valid: ${names.length} ${names.length === 1 ? 'VM' : 'VMs'} (${names.join(', ')})\n`,
    );
  } catch (error) {
    if (!flags.json || !(error instanceof VmFileError)) throw error;
    const diagnostics = diagnosticsToJson(error.source, error.diagnostics);
    printJson(cli, { file: error.source.path, valid: false, vms: [], diagnostics });
    cli.exitCode = EXIT.invalid;
  }
}
