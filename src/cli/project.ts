/** What the commands share that work on the VMs of a VMFile. */
import { type ParsedProject, parseProject } from '../../tasks/parse.js';
import type { BackendKind } from '../model/vm.js';
import { renderDiagnostics } from '../vmfile/diagnostic.js';
import type { Cli } from './cli.js';
import type { Settings } from '../settings/keys.js';
import { wantsColor } from './style.js';

/** Reads the VMFile that is meant, and prints its warnings. Throws `VmFileError` with every mistake in it. */
export async function readProject(cli: Cli, settings: Settings): Promise<ParsedProject> {
  const { cwd, home } = cli;
  const project = await parseProject({ file: settings.file, cwd, home, backend: backendFor(cli, settings) });
  printWarnings(cli, project);
  return project;
}

/** What is to run new VMs; undefined where nobody has said. */
export function backendFor({ hypervisor }: Pick<Cli, 'hypervisor'>, settings: Settings): BackendKind | undefined {
  return hypervisor?.kind ?? settings.backend;
}

export function printWarnings(cli: Cli, { source, warnings }: ParsedProject): void {
  if (warnings.length === 0) return;
  const color = wantsColor(cli.stderr, cli.variables);
  cli.stderr.write(`${renderDiagnostics(source, warnings, { color, cwd: cli.cwd })}\n`);
}
