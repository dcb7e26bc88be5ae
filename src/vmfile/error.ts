/** A VMFile that has mistakes, as one error that carries them all. */
import { type RenderOptions, VmctlError } from '../errors.js';
import type { SourceFile } from '../model/source.js';
import { type Diagnostic, renderDiagnostics } from './diagnostic.js';

export class VmFileError extends VmctlError {
  readonly source: SourceFile;
  /** In source order; warnings included. */
  readonly diagnostics: readonly Diagnostic[];

  constructor(source: SourceFile, diagnostics: readonly Diagnostic[]) {
    const count = diagnostics.filter(({ severity }) => severity === 'error').length;
    super('VMFILE_INVALID', `${source.path} has ${count} ${count === 1 ? 'error' : 'errors'}`, {
      fields: { path: source.path, errors: count },
    });
    this.source = source;
    this.diagnostics = diagnostics;
  }

  override render(options: RenderOptions): string {
    return renderDiagnostics(this.source, this.diagnostics, options);
  }
}
