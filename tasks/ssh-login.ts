/** What the system's ssh has to know to reach a VM and no other machine (ssh_config(5)). */
import { basename, dirname, join, resolve } from 'node:path';
import { identityFiles } from './access.js';
import { VmctlError } from '../src/errors.js';
import type { Endpoint, VmHandle } from '../src/model/vm.js';
import { VM_FILES } from '../src/paths.js';
import { shellQuote } from '../src/ssh/shell-quote.js';
import { exists } from '../src/util/fs.js';

export interface SshLogin {
  readonly name: string;
  /** The VM's own. */
  readonly directory: string;
  readonly endpoint: Endpoint;
  readonly user: string;
  /** Absolute paths, in the order in which they are tried. */
  readonly identities: readonly string[];
  /** Absolute path of the VM's known_hosts. */
  readonly knownHosts: string;
  /** False where the guest has not shown its key yet: then the first one is taken. */
  readonly pinned: boolean;
}

/** The absolute path of a key that is named on the command line. Throws `FILE_NOT_FOUND` when it is not there. */
export async function userKey({ cwd }: { readonly cwd: string }, key: string | undefined): Promise<string | undefined> {
  if (key === undefined) return undefined;
  const path = resolve(cwd, key);
  if (await exists(path)) return path;
  throw new VmctlError('FILE_NOT_FOUND', `the private key ${path} does not exist`, { fields: { path } });
}

/** Everything about the login to a VM that runs. */
export async function sshLogin(
  handle: VmHandle,
  endpoint: Endpoint,
  options: { readonly home: string; readonly user?: string | undefined; readonly key?: string | undefined },
): Promise<SshLogin> {
  const knownHosts = join(handle.directory, VM_FILES.knownHosts);
  return {
    name: handle.name,
    directory: handle.directory,
    endpoint,
    user: options.user ?? handle.spec.ssh.user,
    identities: await identityFiles(handle, options),
    knownHosts,
    pinned: await exists(knownHosts),
  };
}

/** A keyword of ssh_config(5) and its value, ready for a line of a file or for `-o`. */
export type SshSetting = readonly [keyword: string, value: string];

/** The settings; paths are written by `writePath`, which says how it names a file. */
function sshSettings(login: SshLogin, writePath: (path: string) => string): readonly SshSetting[] {
  return [
    ['HostName', login.endpoint.host],
    ['Port', String(login.endpoint.port)],
    ['User', quoted(login.user)],
    ['HostKeyAlias', login.name],
    ['UserKnownHostsFile', writePath(login.knownHosts)],
    ['GlobalKnownHostsFile', '/dev/null'],
    ['StrictHostKeyChecking', login.pinned ? 'yes' : 'accept-new'],
    ['IdentitiesOnly', 'yes'],
    ...login.identities.map((path): SshSetting => ['IdentityFile', writePath(path)]),
    ['LogLevel', 'ERROR'],
  ];
}

/**
 * Options for an ssh that runs in the VM's directory, so that the files in there need no path: not every character can
 * stand in one.
 */
export function sshArguments(login: SshLogin): readonly string[] {
  const settings = sshSettings(login, (path) => configPath(dirname(path) === login.directory ? basename(path) : path));
  return settings.flatMap(([keyword, value]) => ['-o', `${keyword}=${value}`]);
}

/** A command line for a POSIX shell that logs in, with absolute paths. Throws `UNSUPPORTED` as `sshConfigBlock`. */
export function sshCommand(login: SshLogin): string {
  const settings = sshSettings(login, (path) => configPath(assertWritable(path)));
  const options = settings.flatMap(([keyword, value]) => ['-o', shellWord(`${keyword}=${value}`)]);
  return ['ssh', ...options, login.endpoint.host].join(' ');
}

function shellWord(text: string): string {
  return /^[\w@%+=:,./-]+$/.test(text) ? text : shellQuote(text);
}

/** A `Host` block for a configuration file, with absolute paths. Throws `UNSUPPORTED` where a path cannot stand there. */
export function sshConfigBlock(login: SshLogin): string {
  const settings = sshSettings(login, (path) => configPath(assertWritable(path)));
  return [`Host ${login.name}`, ...settings.map(([keyword, value]) => `    ${keyword} ${value}`), ''].join('\n');
}

/** `%` begins a token in the value of a path, and is doubled to mean itself. */
function configPath(path: string): string {
  return quoted(path.replaceAll('%', '%%'));
}

/** A value as it is where every reader takes it so, else in double quotes with what is special in them escaped. */
function quoted(value: string): string {
  return /^[\w@%+:,./-]+$/.test(value) ? value : `"${value.replaceAll(/["\\]/g, '\\$&')}"`;
}

/** A line ends at a line break, and `${` begins a variable, which nothing can take back (ssh_config(5), TOKENS). */
function assertWritable(path: string): string {
  if (!path.includes('${') && !/[\r\n]/.test(path)) return path;
  throw new VmctlError('UNSUPPORTED', `${JSON.stringify(path)} cannot be written in an ssh configuration`, {
    hint: 'Set XDG_DATA_HOME to a folder without "${" and line breaks in its path; vmctl ssh works as it is.',
    fields: { path },
  });
}
