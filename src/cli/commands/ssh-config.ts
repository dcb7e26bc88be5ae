import type { TaskEnvironment } from '../../../tasks/context.js';
import { reachableVm } from '../../../tasks/select-vm.js';
import { type VmctlError, toVmctlError } from '../../errors.js';
import type { RegistryEntry } from '../../registry.js';
import type { Cli, CommandModule } from '../cli.js';
import { exitCodeOfAll } from '../exit-code.js';
import { printError, printJson, printNote } from '../report.js';
import { findEntries, openReader, ownEntries } from '../session.js';
import { type SshLogin, sshConfigBlock, sshLogin } from '../../../tasks/ssh-login.js';

interface SshConfigFlags {
  readonly file?: string;
  readonly json: boolean;
}

const USES = `
Write it to a file and name that: ssh -F vms.conf web, scp -F, sftp -F, rsync -e "ssh -F vms.conf". Or have it read by
every ssh, VS Code Remote included, with a line "Include /path/of/vms.conf" at the top of ~/.ssh/config. The port of a
VM changes with each start, so print it again then.`;

export const command: CommandModule = {
  configure(program, cli) {
    program
      .argument('[name...]', 'the VMs (default: all of the VMFile that exist)')
      .option('-f, --file <path>', 'the VMFile whose VMs are meant (default: VMFile.kdl in this folder)')
      .option('--json', 'print JSON', false)
      .addHelpText('after', USES)
      .action((names: readonly string[], flags: SshConfigFlags) => sshConfig(cli, names, flags));
  },
};

async function sshConfig(cli: Cli, names: readonly string[], flags: SshConfigFlags): Promise<void> {
  const env = openReader(cli, 'ssh-config');
  const { entries, errors } = await chosen(cli, env, { names, file: flags.file });
  const hosts: { readonly login: SshLogin; readonly block: string }[] = [];
  const failures: VmctlError[] = [...errors];
  for (const entry of entries) {
    try {
      const { vm, endpoint } = await reachableVm(env, entry);
      const login = await sshLogin(vm.handle, endpoint, { home: cli.home });
      hosts.push({ login, block: sshConfigBlock(login) });
    } catch (error) {
      failures.push(toVmctlError(error));
    }
  }
  if (flags.json) printJson(cli, { hosts: hosts.map(({ login }) => asJson(login)) });
  else cli.stdout.write(hosts.map(({ block }) => block).join('\n'));
  for (const error of failures) printError(cli, error);
  if (entries.length === 0 && failures.length === 0) printNote(cli, 'there are no VMs; make some with: vmctl up');
  cli.exitCode = exitCodeOfAll(failures);
}

async function chosen(
  cli: Cli,
  env: TaskEnvironment,
  { names, file }: { readonly names: readonly string[]; readonly file: string | undefined },
): Promise<{ readonly entries: readonly RegistryEntry[]; readonly errors: readonly VmctlError[] }> {
  if (names.length > 0) return findEntries(env, names);
  return { entries: (await ownEntries(cli, env, file)).entries, errors: [] };
}

function asJson({ name, endpoint, user, identities, knownHosts, pinned }: SshLogin) {
  const { host, port } = endpoint;
  return { name, host, port, user, identityFiles: identities, knownHosts, hostKeyAlias: name, pinned };
}
