/** What most commands begin with: the settings, the world built from them, and the VMs that are meant. */
import { readdir } from 'node:fs/promises';
import { dirname, join, relative, resolve } from 'node:path';
import { VmctlError, toVmctlError } from '../errors.js';
import type { StatePaths } from '../paths.js';
import type { RegistryEntry } from '../registry.js';
import { exists } from '../util/fs.js';
import { VMFILE_NAME } from '../vmfile/discover.js';
import { didYouMean, suggest } from '../vmfile/suggest.js';
import type { TaskEnvironment } from '../../tasks/context.js';
import { chooseByName, namesOf, oneByName, unknownVm } from '../../tasks/select-specs.js';
import { configured, createEnvironment } from '../../tasks/environment.js';
import type { Cli } from './cli.js';
import { exitCodeOfNoConnection } from './exit-code.js';
import type { Settings } from '../settings/keys.js';
import { printNote } from './report.js';

export interface Session {
  readonly env: TaskEnvironment;
  readonly settings: Settings;
}

/** For commands that change something: reads the configuration and clears away what a killed vmctl left. */
export async function openSession(cli: Cli, command: string, flags: Partial<Settings> = {}): Promise<Session> {
  const settings: Settings = { ...(await settingsOf(cli)), ...flags };
  const env = environmentOf(cli, command, settings);
  const { sweepLeftovers } = await import('../../tasks/sweep.js');
  const { sweepRuns } = await import('../lifetime/run.js');
  await sweepLeftovers(env);
  await sweepRuns(env.paths, env.command);
  return { env, settings };
}

/** The world with these settings; nothing is cleared away. */
export function environmentOf(cli: Cli, command: string, settings: Settings): TaskEnvironment {
  return createEnvironment({ ...outside(cli, command), ...configured(settings) });
}

/** Loaded when asked for: most commands that only look need none, and their time is that of loading code. */
export async function settingsOf(cli: Cli): Promise<Settings> {
  const { loadSettings } = await import('../settings/load.js');
  return loadSettings(cli);
}

/** For commands that only look: nothing is configured, because nothing is started. */
export function openReader(cli: Cli, command: string): TaskEnvironment {
  return createEnvironment({ ...outside(cli, command), backend: 'qemu' });
}

/** The same for another state directory. */
export function readerOf(cli: Cli, command: string, paths: StatePaths): TaskEnvironment {
  return createEnvironment({ ...outside(cli, command), backend: 'qemu', paths });
}

function outside(cli: Cli, command: string) {
  const { variables, home, cwd, signal, hypervisor } = cli;
  const onNote = (text: string) => printNote(cli, text);
  return { variables, home, cwd, signal, hypervisor, onNote, command: `vmctl ${command}` };
}

/** The absolute path of the VMFile that is meant: a flag's, a setting's, or `VMFile.kdl` in this folder. */
export function projectPath(cli: Pick<Cli, 'cwd'>, settings: Settings): string {
  return resolve(cli.cwd, settings.file ?? VMFILE_NAME);
}

/** The VMs that exist of one VMFile: a flag's, a setting's, or `VMFile.kdl` in this folder. */
export async function ownEntries(
  cli: Cli,
  env: TaskEnvironment,
  file: string | undefined,
): Promise<{ readonly project: string; readonly entries: readonly RegistryEntry[] }> {
  const settings = { ...(await settingsOf(cli)), ...(file === undefined ? {} : { file }) };
  const project = projectPath(cli, settings);
  const registered = await env.registry.list();
  await assertNamedProject(cli, { settings, registered });
  return { project, entries: registered.filter((entry) => entry.project === project) };
}

/** Throws `VMFILE_NOT_FOUND` for a VMFile that somebody named, that is not there, and of which no VM is left either. */
export async function assertNamedProject(
  cli: Pick<Cli, 'cwd'>,
  { settings, registered }: { readonly settings: Settings; readonly registered: readonly RegistryEntry[] },
): Promise<void> {
  const path = projectPath(cli, settings);
  if (settings.file === undefined || registered.some(({ project }) => project === path) || (await exists(path))) return;
  const projects = registered.flatMap(({ project }) => project ?? []);
  const beside = await readdir(dirname(path)).catch(() => []);
  const known = [
    ...projects,
    ...beside.filter((name) => name.endsWith('.kdl')).map((name) => join(dirname(path), name)),
  ];
  throw new VmctlError('VMFILE_NOT_FOUND', `there is no VMFile at ${path}, and no VM that was made from one there`, {
    hint:
      didYouMean(
        relative(cli.cwd, path),
        known.map((file) => relative(cli.cwd, file)),
        '"',
      ) ?? 'Which VMFile each VM is from: vmctl list --json',
    fields: { path },
  });
}

/** The VM of that name. Throws `VM_NOT_FOUND` with names that are near, and `USAGE` for the name of several. */
export async function findEntry(env: TaskEnvironment, name: string): Promise<RegistryEntry> {
  return oneByName(await env.registry.list(), name);
}

/** A command's way to its guest: where there is none, that is told apart from what the guest itself answers. */
export async function reaching<T>(cli: Cli, find: () => Promise<T>): Promise<T> {
  try {
    return await find();
  } catch (error) {
    cli.exitCode = exitCodeOfNoConnection(toVmctlError(error));
    throw error;
  }
}

/** Splits names into entries that exist and errors for those that do not; the existing ones are still served. */
export async function findEntries(
  env: TaskEnvironment,
  names: readonly string[],
): Promise<{ readonly entries: readonly RegistryEntry[]; readonly errors: readonly VmctlError[] }> {
  const all = await env.registry.list();
  const known = namesOf(all);
  // Those that are named are no news to whoever names them, and may be gone when this is read.
  const others = known.filter((name) => !names.includes(name));
  const { vms, errors } = chooseByName(all, names, (name) =>
    unknownVm(name, suggest(name, known) === null ? others : known, 'there is no VM'),
  );
  return { entries: vms, errors };
}
