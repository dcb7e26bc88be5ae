import { basename, dirname, join, resolve } from 'node:path';
import { identityFiles } from '../../../tasks/access.js';
import { reachableVm } from '../../../tasks/select-vm.js';
import { VmctlError } from '../../errors.js';
import type { Endpoint, VmHandle } from '../../model/vm.js';
import { VM_FILES } from '../../paths.js';
import type { RegistryEntry } from '../../registry.js';
import { runInteractive } from '../../util/exec.js';
import { exists } from '../../util/fs.js';
import type { TaskEnvironment } from '../../../tasks/context.js';
import type { Cli, CommandModule } from '../cli.js';
import { findEntry, openReader, projectPath } from '../session.js';

interface SshFlags {
  readonly user?: string;
  readonly key?: string;
  readonly file?: string;
}

export const command: CommandModule = {
  configure(program, cli) {
    program
      .argument('[name]', 'the VM (default: the only one of the VMFile)')
      .argument('[command...]', 'after --: run this instead of a login shell')
      .option('--user <user>', 'log in as this user')
      .option('--key <path>', 'a private key to offer')
      .option('-f, --file <path>', 'the VMFile whose only VM is meant (default: VMFile.kdl in this folder)')
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
  const entry = name === undefined ? await onlyVm(cli, env, flags.file) : await findEntry(env, name);
  const { vm, endpoint } = await reachableVm(env, entry);
  const key = flags.key === undefined ? undefined : resolve(cli.cwd, flags.key);
  if (key !== undefined && !(await exists(key))) {
    throw new VmctlError('FILE_NOT_FOUND', `the private key ${key} does not exist`, { fields: { path: key } });
  }
  const identities = await identityFiles(vm.handle, { home: cli.home, key });
  const pinned = await exists(join(vm.handle.directory, VM_FILES.knownHosts));
  const user = flags.user ?? vm.handle.spec.ssh.user;
  const options = sshOptions(vm.handle, { endpoint, identities, pinned });
  cli.ignoreInterrupts();
  const words = [...options, '-l', user, endpoint.host, ...remote];
  cli.exitCode = await runInteractive('ssh', words, { cwd: vm.handle.directory, signal: cli.signal });
}

/**
 * Options that make the system's `ssh` accept this VM's host key and no other (ssh_config(5)). It runs in the VM's
 * directory, because a path in `UserKnownHostsFile` cannot hold every character.
 */
function sshOptions(
  handle: VmHandle,
  facts: { readonly endpoint: Endpoint; readonly identities: readonly string[]; readonly pinned: boolean },
): readonly string[] {
  return [
    ...['-p', String(facts.endpoint.port)],
    ...['-o', `HostKeyAlias=${handle.name}`],
    ...['-o', `UserKnownHostsFile=${VM_FILES.knownHosts}`, '-o', 'GlobalKnownHostsFile=/dev/null'],
    ...['-o', `StrictHostKeyChecking=${facts.pinned ? 'yes' : 'accept-new'}`],
    ...['-o', 'IdentitiesOnly=yes', '-o', 'LogLevel=ERROR'],
    ...facts.identities.flatMap((path) => ['-o', `IdentityFile=${configValue(relativeTo(handle.directory, path))}`]),
  ];
}

function relativeTo(directory: string, path: string): string {
  return dirname(path) === directory ? basename(path) : path;
}

/** A path as a value of ssh_config(5): in double quotes, with `%` doubled because it begins a token. */
function configValue(path: string): string {
  return `"${path.replaceAll(/["\\]/g, '\\$&').replaceAll('%', '%%')}"`;
}

async function onlyVm(cli: Cli, env: TaskEnvironment, file: string | undefined): Promise<RegistryEntry> {
  const { loadSettings } = await import('../config.js');
  const settings = await loadSettings(cli);
  const project = projectPath(cli, file === undefined ? settings : { ...settings, file });
  const own = (await env.registry.list()).filter((entry) => entry.project === project);
  const [only] = own;
  if (only !== undefined && own.length === 1) return only;
  const problem = only === undefined ? `${project} has no VMs` : `${project} has ${own.length} VMs`;
  const hint = only === undefined ? 'Run: vmctl up' : `Say which one: ${own.map(({ name }) => name).join(', ')}.`;
  throw new VmctlError('USAGE', `${problem}, so a name is needed`, { hint });
}
