/** Parse: the VMFile becomes specs with every decision made, or every mistake in it is told at once. */
import { imagePreset, imagePresetNames } from '../presets/images.js';
import type { BackendKind } from '../src/model/vm.js';
import type { VmSpec } from '../src/model/spec.js';
import type { SourceFile } from '../src/model/source.js';
import { checkFiles } from '../src/vmfile/check-files.js';
import type { Diagnostic } from '../src/vmfile/diagnostic.js';
import { discoverVmFile } from '../src/vmfile/discover.js';
import { VmFileError } from '../src/vmfile/error.js';
import type { VmDeclaration } from '../src/vmfile/declaration.js';
import { documentOf } from '../src/vmfile/from-code.js';
import { type ParsedVmFile, parseNodes, parseVmFile } from '../src/vmfile/parse.js';
import { resolveProject } from '../src/vmfile/resolve.js';

export interface ParseOptions {
  /** Path of the VMFile; default `VMFile.kdl` in `cwd`. */
  readonly file?: string | undefined;
  /** VMs that a program declares; then no file is read. */
  readonly vms?: Readonly<Record<string, VmDeclaration>> | undefined;
  readonly cwd: string;
  readonly home: string;
  /** Default: the host's. */
  readonly architecture?: string;
  /** What runs the VMs; default that of this platform. */
  readonly backend?: BackendKind | undefined;
}

export interface ParsedProject {
  readonly source: SourceFile;
  readonly specs: readonly VmSpec[];
  readonly warnings: readonly Diagnostic[];
}

/** Throws `VmFileError` with every diagnostic, or `VMFILE_NOT_FOUND`. */
export async function parseProject(options: ParseOptions): Promise<ParsedProject> {
  const { cwd, home, architecture = process.arch, backend } = options;
  const parsed = options.vms === undefined ? await parseFile(options) : parseDeclared(options.vms, cwd);
  const { source } = parsed.project;
  const presets = { names: imagePresetNames, find: (name: string) => imagePreset(name, architecture) };
  const resolved = resolveProject(parsed.project, { home, presets, backend });
  const files = await checkFiles(resolved.files);
  const diagnostics = [...parsed.diagnostics, ...resolved.diagnostics, ...files].toSorted(
    (a, b) => a.span.start - b.span.start,
  );
  if (diagnostics.some(({ severity }) => severity === 'error')) throw new VmFileError(source, diagnostics);
  return { source, specs: resolved.specs, warnings: diagnostics };
}

async function parseFile({ cwd, file }: ParseOptions): Promise<ParsedVmFile> {
  return parseVmFile(await discoverVmFile({ cwd, ...(file === undefined ? {} : { file }) }));
}

function parseDeclared(vms: Readonly<Record<string, VmDeclaration>>, cwd: string): ParsedVmFile {
  const { source, nodes } = documentOf(vms, cwd);
  return parseNodes(source, nodes);
}
