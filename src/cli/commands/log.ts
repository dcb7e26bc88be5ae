import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { VmctlError } from '../../errors.js';
import { VM_FILES } from '../../paths.js';
import { isMissing } from '../../util/fs.js';
import type { Cli, CommandModule } from '../cli.js';
import { positiveOption } from '../options.js';
import { findEntry, openReader } from '../session.js';

interface LogFlags {
  readonly console: boolean;
  readonly provision: boolean;
  readonly tail?: number;
}

export const command: CommandModule = {
  configure(program, cli) {
    program
      .argument('<name>', 'the VM')
      .option('--console', 'what the guest printed on its serial console (the default)', false)
      .option('--provision', 'what the provisioners printed', false)
      .option('-n, --tail <lines>', 'only the last lines', positiveOption)
      .action((name: string, flags: LogFlags) => log(cli, name, flags));
  },
};

async function log(cli: Cli, name: string, flags: LogFlags): Promise<void> {
  if (flags.console && flags.provision) {
    throw new VmctlError('USAGE', '--console and --provision are two different logs', { hint: 'Give one of them.' });
  }
  const entry = await findEntry(openReader(cli, 'log'), name);
  const path = join(entry.directory, flags.provision ? VM_FILES.provisionLog : VM_FILES.consoleLog);
  const text = await readFile(path, 'utf8').catch((cause: unknown) => {
    if (isMissing(cause)) {
      throw new VmctlError(
        'FILE_NOT_FOUND',
        `VM "${name}" has no ${flags.provision ? 'provision' : 'console'} log yet`,
        {
          hint: flags.provision ? 'None of its provisioners has run.' : 'It was never started.',
          cause,
        },
      );
    }
    throw cause;
  });
  cli.stdout.write(flags.tail === undefined ? text : lastLines(text, flags.tail));
}

function lastLines(text: string, count: number): string {
  const lines = text.split('\n');
  const ended = lines.at(-1) === '';
  return lines.slice(-(ended ? count + 1 : count)).join('\n');
}
