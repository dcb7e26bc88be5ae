import { parseProject } from '../../../tasks/parse.js';
import { diagnosticsToJson, renderDiagnostics } from '../../vmfile/diagnostic.js';
import { VmFileError } from '../../vmfile/error.js';
import type { Cli, CommandModule } from '../cli.js';
import { EXIT, exitCodeOf } from '../exit-code.js';
import { FILE_OPTION } from '../options.js';
import { variableOf } from '../../settings/keys.js';
import { backendFor } from '../project.js';
import { printError, printJson } from '../report.js';
import { settingsOrProblem } from '../settings-problem.js';
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
  const { settings, problem } = await settingsOrProblem(cli);
  const file = flags.file ?? settings.file ?? (problem === null ? undefined : cli.variables[variableOf('file')]);
  // Both are told, and either one is what "up" would refuse.
  if (problem !== null) {
    if (!flags.json) printError(cli, problem);
    cli.exitCode = exitCodeOf(problem);
  }
  const configuration = problem === null ? null : problem.toJSON();
  try {
    const { cwd, home } = cli;
    const { source, specs, warnings } = await parseProject({ file, cwd, home, backend: backendFor(cli, settings) });
    const names = specs.map(({ name }) => name);
    if (flags.json) {
      const diagnostics = diagnosticsToJson(source, warnings);
      printJson(cli, { file: source.path, valid: problem === null, vms: names, diagnostics, configuration });
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
    printJson(cli, { file: error.source.path, valid: false, vms: [], diagnostics, configuration });
    cli.exitCode = EXIT.invalid;
  }
}
