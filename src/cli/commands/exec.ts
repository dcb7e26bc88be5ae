import { sshAccess } from '../../../tasks/access.js';
import { reachableVm } from '../../../tasks/select-vm.js';
import { VmctlError, toVmctlError } from '../../errors.js';
import { connectSsh } from '../../ssh/client.js';
import { shellQuote } from '../../ssh/shell-quote.js';
import type { Cli, CommandModule } from '../cli.js';
import { EXIT, exitCodeOfNoConnection } from '../exit-code.js';
import { fittingHint } from '../login-hint.js';
import { waitOption } from '../options.js';
import { findEntry, openReader, reaching } from '../session.js';

interface ExecFlags {
  readonly user?: string;
  readonly timeout?: number;
}

const OPTIONS = `
Options before the command's first word are vmctl's, those after it are the command's; "--" before it makes that plain.`;

export const command: CommandModule = {
  configure(program, cli) {
    program
      .argument('<name>', 'the VM')
      .argument('<command...>', 'one word is a line for the guest’s shell; several are a program and its arguments')
      .option('--user <user>', 'run as this user')
      .option('--timeout <duration>', 'end it after this time, such as 30s', waitOption)
      .addHelpText('after', OPTIONS)
      .action((name: string, words: readonly string[], flags: ExecFlags) => exec(cli, { name, words, flags }));
  },
};

async function exec(cli: Cli, request: { name: string; words: readonly string[]; flags: ExecFlags }): Promise<void> {
  const { name, words, flags } = request;
  const env = openReader(cli, 'exec');
  const { vm, access, endpoint } = await reaching(cli, async () => {
    const found = await reachableVm(env, await findEntry(env, name));
    return { ...found, access: await sshAccess(found.vm.handle, { home: cli.home, user: flags.user }) };
  });
  // A command may print for ever; without a reader it has to end.
  const closed = new AbortController();
  cli.onOutputClosed = () => closed.abort();
  const signal = AbortSignal.any([cli.signal, closed.signal]);
  const line = words.length === 1 ? (words[0] ?? '') : words.map(shellQuote).join(' ');
  try {
    await using connection = await connectSsh({ ...access, endpoint }, { signal });
    const result = await connection.exec(line, {
      ...(cli.stdin.isTTY === true ? {} : { stdin: cli.stdin }),
      onStdout: (chunk) => void cli.stdout.write(chunk),
      onStderr: (chunk) => void cli.stderr.write(chunk),
      ...(flags.timeout === undefined ? {} : { timeoutMs: flags.timeout * 1000 }),
      signal,
    });
    cli.exitCode = result.exitCode ?? EXIT.transport;
    if (result.exitCode === null) throw new VmctlError('SSH_TRANSPORT', `the command was ended by ${result.signal}`);
  } catch (error) {
    const told = fittingHint(toVmctlError(error), vm.handle.spec);
    if (closed.signal.aborted) {
      cli.exitCode = EXIT.outputClosed;
      return;
    }
    cli.exitCode = exitCodeOfNoConnection(told);
    throw told;
  }
}
