import type { Check, CheckResult } from '../../../tasks/check.js';
import { gatherHostFacts } from '../../../tasks/gather-host-facts.js';
import { checkHost } from '../../../tasks/host-checks.js';
import type { Cli, CommandModule } from '../cli.js';
import { EXIT } from '../exit-code.js';
import { printJson, printNote } from '../report.js';
import { environmentOf } from '../session.js';
import { settingsOrProblem } from '../settings-problem.js';
import { painter, wantsColor } from '../style.js';

interface DoctorFlags {
  readonly file?: string;
  readonly json: boolean;
}

export const command: CommandModule = {
  configure(program, cli) {
    program
      .option('-f, --file <path>', 'the VMFile whose needs are looked at (default: VMFile.kdl in this folder)')
      .option('--json', 'print JSON', false)
      .addHelpText(
        'after',
        '\nIt changes nothing. The exit code is 4 when this host cannot run VMs, and 0 with warnings.',
      )
      .action((flags: DoctorFlags) => doctor(cli, flags));
  },
};

async function doctor(cli: Cli, flags: DoctorFlags): Promise<void> {
  // One finding of many; the others are made with the defaults.
  const { settings, problem } = await settingsOrProblem(cli);
  const env = environmentOf(cli, 'doctor', settings);
  const file = flags.file ?? settings.file;
  const options = { file, settingsProblem: problem, qemuBinary: settings['qemu.binary'] ?? null };
  const checks = checkHost(await gatherHostFacts(env, options));
  const problems = checks.filter(({ result }) => result === 'problem');
  const able = problems.length === 0;
  // A mistake in the settings is no fault of the host, and has the exit code that it has everywhere.
  const onlySettings = problems.every(({ id }) => id === 'settings');
  cli.exitCode = able ? EXIT.done : onlySettings ? EXIT.invalid : EXIT.hostUnsupported;
  if (flags.json) {
    printJson(cli, { able, checks });
    return;
  }
  cli.stdout.write(asTable(cli, checks));
  printNote(cli, able ? 'this host can run VMs' : `this host cannot run VMs yet: ${titlesOf(problems)}`);
}

function titlesOf(checks: readonly Check[]): string {
  return checks.map(({ title }) => title).join(', ');
}

/** For a terminal that shows signs and colours, and for everything else. */
const MARKS: Readonly<Record<CheckResult, { sign: string; word: string; color: 'green' | 'yellow' | 'red' | 'dim' }>> =
  {
    ok: { sign: '✔', word: 'ok', color: 'green' },
    warning: { sign: '!', word: 'warning', color: 'yellow' },
    problem: { sign: '✘', word: 'problem', color: 'red' },
    unchecked: { sign: '-', word: 'not checked', color: 'dim' },
  };

function asTable(cli: Cli, checks: readonly Check[]): string {
  const color = wantsColor(cli.stdout, cli.variables);
  const paint = painter(color);
  const markOf = ({ result }: Check) => (color ? MARKS[result].sign : MARKS[result].word);
  const markWidth = Math.max(...checks.map((check) => markOf(check).length));
  const titleWidth = Math.max(...checks.map(({ title }) => title.length));
  const indent = ' '.repeat(markWidth + titleWidth + 4);
  const lines = checks.flatMap((check) => {
    const mark = paint(MARKS[check.result].color, markOf(check).padEnd(markWidth));
    const steps = check.next.map((step) => `${indent}${paint('cyan', 'next:')} ${step}`);
    return [`${mark}  ${check.title.padEnd(titleWidth)}  ${check.found}`, ...steps];
  });
  return `${lines.join('\n')}\n`;
}
