/** What the commands share that work on the VMs of a VMFile. */
import { type ParsedProject, parseProject } from '../../tasks/parse.js';
import type { VmctlError } from '../errors.js';
import type { VmSpec } from '../model/spec.js';
import { renderDiagnostics } from '../vmfile/diagnostic.js';
import type { Cli } from './cli.js';
import type { Settings } from '../settings/keys.js';
import { unknownVm } from './session.js';
import { wantsColor } from './style.js';

/** Reads the VMFile that is meant, and prints its warnings. Throws `VmFileError` with every mistake in it. */
export async function readProject(cli: Cli, settings: Settings): Promise<ParsedProject> {
  const project = await parseProject({ file: settings.file, cwd: cli.cwd, home: cli.home });
  if (project.warnings.length > 0) {
    const color = wantsColor(cli.stderr, cli.variables);
    cli.stderr.write(`${renderDiagnostics(project.source, project.warnings, { color, cwd: cli.cwd })}\n`);
  }
  return project;
}

export interface Selection {
  /** In the file's order. */
  readonly specs: readonly VmSpec[];
  /** One for each name that the VMFile does not have. */
  readonly errors: readonly VmctlError[];
}

/** The VMs of these names; all when none is given. */
export function selectSpecs(specs: readonly VmSpec[], names: readonly string[]): Selection {
  if (names.length === 0) return { specs, errors: [] };
  const known = specs.map(({ name }) => name);
  const unknown = [...new Set(names)].filter((name) => !known.includes(name));
  return {
    specs: specs.filter(({ name }) => names.includes(name)),
    errors: unknown.map((name) => unknownVm(name, known, 'the VMFile has no VM')),
  };
}

/** The chosen VMs and everything that they depend on. */
export function selectWithDependencies(specs: readonly VmSpec[], names: readonly string[]): Selection {
  const { specs: chosen, errors } = selectSpecs(specs, names);
  const wanted = new Set(chosen.map(({ name }) => name));
  for (const name of wanted) {
    for (const dependency of specs.find((spec) => spec.name === name)?.dependsOn ?? []) wanted.add(dependency);
  }
  return { specs: specs.filter(({ name }) => wanted.has(name)), errors };
}
