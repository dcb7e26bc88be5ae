/** What can be wrong with how a VMFile is read, whatever is wrong with the VMFile. */
import { diagnosticsToJson, hasErrors, renderDiagnostics } from '../../src/vmfile/diagnostic.js';
import { parseKdl } from '../../src/vmfile/kdl.js';
import { parseVmFile } from '../../src/vmfile/parse.js';
import { resolveProject } from '../../src/vmfile/resolve.js';
import { OPTIONS, sourceOf } from './report.js';

/** Reads a text in every stage and shows what is wrong with it; the result is what is wrong with that. */
export function faultsOf(text: string): readonly string[] {
  const source = sourceOf(text);
  const { project, diagnostics } = parseVmFile(source);
  const all = [...diagnostics, ...resolveProject(project, OPTIONS).diagnostics];
  const faults: string[] = [];
  for (const span of all.flatMap((diagnostic) => [diagnostic.span, ...diagnostic.labels.map((label) => label.span)])) {
    const isInside = span.start >= 0 && span.end >= span.start && span.end <= text.length;
    if (!isInside) faults.push(`${span.start} to ${span.end} is not in a text of ${text.length}`);
  }
  for (const { line, column, endLine, endColumn } of diagnosticsToJson(source, all)) {
    const isPlace = [line, column, endLine, endColumn].every((number) => Number.isInteger(number) && number >= 1);
    if (!isPlace) faults.push(`${line}:${column} to ${endLine}:${endColumn} is no place`);
  }
  const shown = renderDiagnostics(source, all, { color: false });
  if (/undefined|NaN|\[object/.test(shown)) faults.push(shown);
  if (!parseKdl(text).ok && !hasErrors(diagnostics)) faults.push('broken KDL was accepted');
  return faults;
}
