import type { TaskEnvironment } from '../../../tasks/context.js';
import { reachableVm } from '../../../tasks/select-vm.js';
import { VmctlError } from '../../errors.js';
import type { RegistryEntry } from '../../registry.js';
import { runInteractive } from '../../util/exec.js';
import type { Cli, CommandModule } from '../cli.js';
import { findEntry, openReader, ownEntries, reaching } from '../session.js';
import { sshArguments, sshLogin, userKey } from '../../../tasks/ssh-login.js';

interface SshFlags {
  readonly user?: string;
  readonly key?: string;
  readonly file?: string;
}

const OPTIONS = `
Options before the command's first word are vmctl's, those after it are the command's: "vmctl ssh web --user root" and
"vmctl ssh web tail -f x" do what they say. Without NAME the command stands behind "--": vmctl ssh -- uptime`;

export const command: CommandModule = {
  configure(program, cli) {
    program
      .argument('[name]', 'the VM (default: the only one of the VMFile)')
      .argument('[command...]', 'run this instead of a login shell; on a terminal it gets one')
      .option('--user <user>', 'log in as this user')
      .option('--key <path>', 'a private key to offer')
      .option('-f, --file <path>', 'the VMFile whose only VM is meant (default: VMFile.kdl in this folder)')
      .addHelpText('after', OPTIONS)
      .action((name: string | undefined, words: readonly string[], flags: SshFlags) => {
        // Before "--" there is at most the name: `vmctl ssh -- uptime` means the only VM.
        const named = cli.wordsBeforeDashes > 0 ? name : undefined;
        const remote = cli.wordsBeforeDashes > 0 || name === undefined ? words : [name, ...words];
        return ssh(cli, { name: named, remote, flags });
      });
  },
};

async function ssh(
  cli: Cli,
  request: { name: string | undefined; remote: readonly string[]; flags: SshFlags },
): Promise<void> {
  const { name, remote, flags } = request;
  const env = openReader(cli, 'ssh');
  const { vm, endpoint, login } = await reaching(cli, async () => {
    const found = await reachableVm(
      env,
      name === undefined ? await onlyVm(cli, env, flags.file) : await findEntry(env, name),
    );
    const key = await userKey(cli, flags.key);
    const options = { home: cli.home, user: flags.user, key };
    return { ...found, login: await sshLogin(found.vm.handle, found.endpoint, options) };
  });
  // ssh itself gives a terminal to a login shell only; a program like top or an editor needs one too.
  const terminal = remote.length > 0 && cli.stdin.isTTY === true && cli.stdout.isTTY === true ? ['-t'] : [];
  cli.ignoreInterrupts();
  const words = [...sshArguments(login), ...terminal, endpoint.host, ...remote];
  cli.exitCode = await runInteractive('ssh', words, { cwd: vm.handle.directory, signal: cli.signal });
}

async function onlyVm(cli: Cli, env: TaskEnvironment, file: string | undefined): Promise<RegistryEntry> {
  const { project, entries } = await ownEntries(cli, env, file);
  const [only] = entries;
  if (only !== undefined && entries.length === 1) return only;
  const problem = only === undefined ? `${project} has no VMs` : `${project} has ${entries.length} VMs`;
  const hint = only === undefined ? 'Run: vmctl up' : `Say which one: ${entries.map(({ name }) => name).join(', ')}.`;
  throw new VmctlError('USAGE', `${problem}, so a name is needed`, { hint });
}
