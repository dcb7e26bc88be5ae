import { type OpenConsole, openConsole } from '../../../tasks/console.js';
import { VmctlError } from '../../errors.js';
import { type AttachEnd, attach } from '../attach.js';
import type { Cli, CommandModule } from '../cli.js';
import { EXIT } from '../exit-code.js';
import { RawTerminal } from '../raw-terminal.js';
import { printNote } from '../report.js';
import { findEntry, openReader } from '../session.js';
import { TerminalModes } from '../terminal-modes.js';

/** How long a guest must have been quiet after the end of piped input, in milliseconds. */
const QUIET_MS = 2_000;

export const command: CommandModule = {
  configure(program, cli) {
    program
      .argument('<name>', 'the VM')
      .addHelpText(
        'after',
        `
Every key goes to the guest, Ctrl-C too; only Ctrl-] detaches. A serial line does not tell the guest how large this
window is; "stty rows 40 cols 100" in the guest does.
Where stdin is no terminal, it is sent to the guest as it is, and vmctl ends when the guest has been quiet for 2 s
after the end of it. To only look on, use: vmctl log NAME --follow`,
      )
      .action((name: string) => attachConsole(cli, name));
  },
};

async function attachConsole(cli: Cli, name: string): Promise<void> {
  const env = openReader(cli, 'console');
  await using console = await openConsole(env, await findEntry(env, name));
  if (console.state === 'suspended') printNote(cli, `VM "${name}" is suspended: it neither prints nor reads`);
  const closed = new AbortController();
  cli.onOutputClosed = () => closed.abort();
  const signal = AbortSignal.any([cli.signal, closed.signal]);
  try {
    const visit: Visit = { name, console, signal };
    const end = cli.stdin.isTTY === true ? await lendTerminal(cli, visit) : await pipe(cli, visit);
    await tell(cli, { name, end, console });
  } catch (error) {
    if (!signal.aborted) throw error;
    // Being told to end is no failure of the console.
    cli.exitCode = cli.signal.aborted ? EXIT.interrupted : EXIT.outputClosed;
  }
}

/** The console of one VM, and when it has to be left. */
interface Visit {
  readonly name: string;
  readonly console: OpenConsole;
  readonly signal: AbortSignal;
}

async function lendTerminal(cli: Cli, { name, console, signal }: Visit): Promise<AttachEnd> {
  cli.stderr.write(`Attached to the serial console of VM "${name}". Ctrl-] detaches.\n`);
  if (cli.stdout.isTTY === true) cli.stdout.write(console.recent);
  const modes = new TerminalModes();
  using terminal = await RawTerminal.enter(cli, modes);
  // Given back before anything is said about the interruption.
  cli.onInterrupt = () => {
    terminal.restore();
    return 'detaching';
  };
  const { stdin: input, stdout: output } = cli;
  const onOutput = (chunk: Uint8Array) => modes.see(chunk);
  return await attach(console.stream, { input, output, typed: true, quietMs: 0, onOutput }, signal);
}

async function pipe(cli: Cli, { name, console, signal }: Visit): Promise<AttachEnd> {
  const { stdin: input, stdout: output } = cli;
  const end = await attach(console.stream, { input, output, typed: false, quietMs: QUIET_MS }, signal);
  const unread = console.stream.writableLength;
  if (end === 'guest' || unread === 0) return end;
  throw new VmctlError('VM_STATE', `VM "${name}" did not read the last ${unread} bytes of the input`, {
    hint: `See what it is doing: vmctl log ${name}`,
    fields: { vm: name },
  });
}

async function tell(
  cli: Cli,
  { name, end, console }: { readonly name: string; readonly end: AttachEnd; readonly console: OpenConsole },
): Promise<void> {
  // A person's cursor is wherever the guest has left it.
  if (cli.stdin.isTTY === true) cli.stderr.write('\n');
  if (end === 'detached') cli.stderr.write(`Detached from VM "${name}". It runs on.\n`);
  if (end !== 'guest') return;
  if (!(await console.hasStopped())) {
    throw new VmctlError('VM_STATE', `VM "${name}" runs, but its serial console was closed from the other side`, {
      hint: `Attach again: vmctl console ${name}`,
      fields: { vm: name },
    });
  }
  cli.stderr.write(`VM "${name}" has stopped.\n`);
}
