/** Parse: the VMFile becomes specs with every decision made, or every mistake in it is told at once. */
import { imagePreset, imagePresetNames } from '../presets/images.js';
import type { VmSpec } from '../src/model/spec.js';
import type { SourceFile } from '../src/model/source.js';
import { checkFiles } from '../src/vmfile/check-files.js';
import type { Diagnostic } from '../src/vmfile/diagnostic.js';
import { discoverVmFile } from '../src/vmfile/discover.js';
import { VmFileError } from '../src/vmfile/error.js';
import { parseVmFile } from '../src/vmfile/parse.js';
import { resolveProject } from '../src/vmfile/resolve.js';

export interface ParseOptions {
  /** Path of the VMFile; default `VMFile.kdl` in `cwd`. */
  readonly file?: string | undefined;
  readonly cwd: string;
  readonly home: string;
  /** Default: the host's. */
  readonly architecture?: string;
}

export interface ParsedProject {
  readonly source: SourceFile;
  readonly specs: readonly VmSpec[];
  readonly warnings: readonly Diagnostic[];
}

/** Throws `VmFileError` with every diagnostic, or `VMFILE_NOT_FOUND`. */
export async function parseProject(options: ParseOptions): Promise<ParsedProject> {
  const { cwd, home, architecture = process.arch } = options;
  const source = await discoverVmFile({ cwd, ...(options.file === undefined ? {} : { file: options.file }) });
  const parsed = parseVmFile(source);
  const presets = { names: imagePresetNames, find: (name: string) => imagePreset(name, architecture) };
  const resolved = resolveProject(parsed.project, { home, presets });
  const files = await checkFiles(resolved.files);
  const diagnostics = [...parsed.diagnostics, ...resolved.diagnostics, ...files].toSorted(
    (a, b) => a.span.start - b.span.start,
  );
  if (diagnostics.some(({ severity }) => severity === 'error')) throw new VmFileError(source, diagnostics);
  return { source, specs: resolved.specs, warnings: diagnostics };
}
