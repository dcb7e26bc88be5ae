import { VmctlError, toVmctlError } from '../../errors.js';
import { type FinishedUp, prepareUp } from '../../api/session.js';
import { runInteractive } from '../../util/exec.js';
import type { Cli, CommandModule } from '../cli.js';
import { EXIT } from '../exit-code.js';
import { showGraph } from '../graph.js';
import { BOOT_FIRST_OPTION, COLD_OPTION, FILE_OPTION, positiveOption } from '../options.js';
import { printWarnings } from '../project.js';
import { printNote } from '../report.js';

interface RunFlags {
  readonly file?: string;
  readonly keep?: true;
  readonly reuse?: true;
  readonly parallel?: number;
  readonly bootFirst?: true;
  readonly cold: boolean;
}

const ENVIRONMENT = `
The command finds in its environment
  VMCTL_CONNECTION   a file that attach() of the package vmctl takes: how each VM is reached, as JSON
  VMCTL_SSH_CONFIG   a file for ssh -F, scp -F and rsync -e "ssh -F …"
  VMCTL_STATE        with it every vmctl command works with these VMs: vmctl exec web -- uptime
The VMs are apart from those of vmctl up, and their forwards take free ports of this host. They end with the command, or
with vmctl run itself, however that ends; its exit code is the command's.`;

export const command: CommandModule = {
  configure(program, cli) {
    program
      .usage('[options] [name...] -- <command...>')
      .argument(
        '[words...]',
        'before --: VMs to bring up, with what they depend on (default: all); after --: the command to run',
      )
      .option(...FILE_OPTION)
      .option('--keep', 'leave the VMs when the command has ended')
      .option('--reuse', 'take over the VMs of the run before while they are as declared, and leave them for the next')
      .option(...COLD_OPTION)
      .option('--parallel <n>', 'guests that boot at the same time (default: the number of cores)', positiveOption)
      .option(...BOOT_FIRST_OPTION)
      .addHelpText('after', ENVIRONMENT)
      .action((words: readonly string[], flags: RunFlags) => {
        const names = words.slice(0, cli.wordsBeforeDashes);
        return run(cli, { names, words: words.slice(cli.wordsBeforeDashes), flags });
      });
  },
};

async function run(
  cli: Cli,
  { names, words, flags }: { names: readonly string[]; words: readonly string[]; flags: RunFlags },
): Promise<void> {
  const [program, ...rest] = words;
  if (program === undefined) {
    throw new VmctlError('USAGE', 'there is no command to run', {
      hint: 'Put it behind two dashes: vmctl run -- npm test',
    });
  }
  const { variables, home, cwd, hypervisor, signal } = cli;
  const prepared = await prepareUp(
    {
      file: flags.file,
      vms: names.length === 0 ? undefined : names,
      keep: flags.keep,
      reuse: flags.reuse,
      ...(flags.cold ? { warm: false } : {}),
      concurrency: { boots: flags.parallel },
      bootFirst: flags.bootFirst,
      signal,
    },
    { variables, home, cwd, hypervisor, command: `vmctl run ${words.join(' ')}` },
  );
  printWarnings(cli, prepared.project);
  cli.onInterrupt = () => 'ending the VMs';
  await showGraph(cli, prepared.env, prepared.graph, { json: false });
  const up = await prepared.finish().catch((error: unknown) => afterTelling(cli, error));
  if (up === null) return;
  try {
    await runCommand(cli, up, [program, ...rest]);
  } finally {
    cli.passSignals(null);
    await up.fleet.down();
    const state = up.fleet.stateDirectory;
    if (flags.keep === true) printNote(cli, `the VMs stay; to work with them: VMCTL_STATE=${state} vmctl list`);
  }
}

/** The graph has shown what failed, and set the exit code. */
function afterTelling(cli: Cli, error: unknown): null {
  const told = toVmctlError(error);
  if (cli.exitCode === EXIT.done || (told.code !== 'UP_FAILED' && told.code !== 'ABORTED')) throw error;
  return null;
}

async function runCommand(cli: Cli, up: FinishedUp<string>, words: readonly [string, ...string[]]): Promise<void> {
  const [program, ...rest] = words;
  const files = await up.writeConnection();
  const env = {
    VMCTL_CONNECTION: files.connection,
    VMCTL_SSH_CONFIG: files.sshConfig,
    VMCTL_STATE: up.fleet.stateDirectory,
  };
  // A terminal sends Ctrl-C to the command as well.
  const onTerminal = [cli.stdin, cli.stdout, cli.stderr].some(({ isTTY }) => isTTY === true);
  try {
    cli.exitCode = await runInteractive(program, rest, {
      cwd: cli.cwd,
      env,
      onStart: (send) => cli.passSignals((signal) => (signal === 'SIGINT' && onTerminal ? undefined : send(signal))),
    });
  } catch (error) {
    // As a shell has it for a command that is not there.
    if (toVmctlError(error).code === 'HOST_UNSUPPORTED') cli.exitCode = EXIT.notFound;
    throw error;
  }
}
