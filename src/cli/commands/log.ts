import { join } from 'node:path';
import { catchUpConsole, keepConsole } from '../../../tasks/console-log.js';
import { VmctlError } from '../../errors.js';
import { VM_FILES } from '../../paths.js';
import { openTail } from '../../util/file-tail.js';
import { followFile } from '../../util/follow-file.js';
import { exists } from '../../util/fs.js';
import type { Cli, CommandModule } from '../cli.js';
import { EXIT } from '../exit-code.js';
import { positiveOption } from '../options.js';
import { writeOutput } from '../output.js';
import { printNote } from '../report.js';
import { findEntry, openReader } from '../session.js';

interface LogFlags {
  readonly console: boolean;
  readonly provision: boolean;
  readonly tail?: number;
  readonly follow: boolean;
}

export const command: CommandModule = {
  configure(program, cli) {
    program
      .argument('<name>', 'the VM')
      .option('--console', 'what the guest printed on its serial console (the default)', false)
      .option('--provision', 'what the provisioners printed', false)
      .option('-n, --tail <lines>', 'only the last lines', positiveOption)
      .option('-f, --follow', 'go on with what is added, until Ctrl-C or until the VM is destroyed', false)
      .action((name: string, flags: LogFlags) => log(cli, name, flags));
  },
};

/** One log of one VM. */
interface Log {
  readonly vm: string;
  readonly kind: 'console' | 'provision';
  readonly path: string;
  readonly lastLines: number | undefined;
}

async function log(cli: Cli, name: string, flags: LogFlags): Promise<void> {
  if (flags.console && flags.provision) {
    throw new VmctlError('USAGE', '--console and --provision are two different logs', { hint: 'Give one of them.' });
  }
  const env = openReader(cli, 'log');
  const entry = await findEntry(env, name);
  const [kind, file] = flags.provision
    ? (['provision', VM_FILES.provisionLog] as const)
    : (['console', VM_FILES.consoleLog] as const);
  const wanted: Log = { vm: name, kind, path: join(entry.directory, file), lastLines: flags.tail };
  // A log may be long, or never end; without a reader it has to.
  const closed = new AbortController();
  cli.onOutputClosed = () => closed.abort();
  const signal = AbortSignal.any([cli.signal, closed.signal]);
  if (kind === 'console') {
    const problem = await catchUpConsole(env, entry);
    if (problem !== null) printNote(cli, `what it printed last cannot be had: ${problem.message}`);
  }
  if (flags.follow) {
    await using _keeper = kind === 'console' ? keepConsole(env, entry) : null;
    await follow(cli, wanted, signal);
  } else {
    await show(cli, wanted, signal);
  }
  // Ctrl-C is how following ends, and so no failure that has to be told.
  if (cli.signal.aborted) cli.exitCode = EXIT.interrupted;
  else if (closed.signal.aborted) cli.exitCode = EXIT.outputClosed;
}

async function show(cli: Cli, { vm, kind, path, lastLines }: Log, signal: AbortSignal): Promise<void> {
  const chunks = await openTail(path, lastLines);
  if (chunks === null) {
    throw new VmctlError('FILE_NOT_FOUND', `VM "${vm}" has no ${kind} log yet`, {
      hint: kind === 'provision' ? 'None of its provisioners has run.' : 'It was never started.',
    });
  }
  for await (const chunk of chunks) {
    if (signal.aborted) return;
    await writeOutput(cli.stdout, chunk, signal);
  }
}

async function follow(cli: Cli, { vm, kind, path, lastLines }: Log, signal: AbortSignal): Promise<void> {
  if (!(await exists(path))) printNote(cli, `VM "${vm}" has no ${kind} log yet; waiting for it`);
  try {
    const options = lastLines === undefined ? { signal } : { signal, lastLines };
    for await (const chunk of followFile(path, options)) await writeOutput(cli.stdout, chunk, signal);
    printNote(cli, `VM "${vm}" was destroyed`);
  } catch (error) {
    if (!signal.aborted) throw error;
  }
}
