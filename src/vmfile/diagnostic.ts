/** What is wrong with a VMFile, as facts: gathered while it is read, shown by `renderDiagnostics`, kept as JSON. */
import { relative } from 'node:path';
import { styleText } from 'node:util';
import type { RenderOptions } from '../errors.js';
import type { SourceFile, Span } from '../model/source.js';
import { counted } from '../util/words.js';
import { codeFrame, type FrameOptions, type FrameStyle, printable } from './code-frame.js';
import { LineIndex } from './line-index.js';

export type Severity = 'error' | 'warning';

export type DiagnosticCode =
  | 'syntax'
  | 'unknown-node'
  | 'unknown-property'
  | 'unknown-value'
  | 'unexpected'
  | 'wrong-type'
  | 'out-of-range'
  | 'invalid-value'
  | 'missing'
  | 'duplicate'
  | 'conflict'
  | 'unknown-vm'
  | 'cycle'
  | 'insecure'
  | 'unsupported'
  | 'file';

/** Another place that has to do with a finding, and what it is. */
export interface Label {
  readonly span: Span;
  readonly text: string;
}

export interface Diagnostic {
  readonly severity: Severity;
  readonly code: DiagnosticCode;
  readonly message: string;
  /** The exact place. */
  readonly span: Span;
  /** What is said beside the underlined place. */
  readonly label: string | null;
  readonly labels: readonly Label[];
  /** The next step. */
  readonly hint: string | null;
}

/** A finding as it is reported; what is left out is empty. */
export interface Finding {
  readonly code: DiagnosticCode;
  readonly message: string;
  readonly span: Span;
  readonly label?: string;
  readonly labels?: readonly Label[];
  readonly hint?: string | undefined;
}

/** Gathers findings, so that everything wrong in a file is reported in one run. */
export class Findings {
  readonly #list: Diagnostic[] = [];

  error(finding: Finding): void {
    this.add({ ...complete(finding), severity: 'error' });
  }

  warning(finding: Finding): void {
    this.add({ ...complete(finding), severity: 'warning' });
  }

  add(...diagnostics: readonly Diagnostic[]): void {
    this.#list.push(...diagnostics);
  }

  /** In source order. */
  get diagnostics(): readonly Diagnostic[] {
    return sortDiagnostics(this.#list);
  }
}

/** The findings in the order of the source; those of one place stay as they were. */
export function sortDiagnostics(diagnostics: readonly Diagnostic[]): readonly Diagnostic[] {
  return diagnostics.toSorted((a, b) => a.span.start - b.span.start);
}

/** True when at least one finding is an error: then nothing may be created, downloaded or started. */
export function hasErrors(diagnostics: readonly Diagnostic[]): boolean {
  return diagnostics.some((diagnostic) => diagnostic.severity === 'error');
}

/** `3 errors, 1 warning`; an empty string when there is nothing to count. */
export function summarize(diagnostics: readonly Diagnostic[]): string {
  const errors = diagnostics.filter((diagnostic) => diagnostic.severity === 'error').length;
  const counts = [count(errors, 'error'), count(diagnostics.length - errors, 'warning')];
  return counts.filter((words) => words !== '').join(', ');
}

/**
 * The findings as people read them: each with file, line, column, the line of source with the exact place underlined,
 * and a hint; in source order, with a count at the end. No line end after the last line.
 */
export function renderDiagnostics(
  source: SourceFile,
  diagnostics: readonly Diagnostic[],
  options: RenderOptions,
): string {
  const paint = options.color ? colorful : plain;
  const lines = new LineIndex(source.text);
  const path = shorterPath(source.path, options.cwd);
  const frame = { text: source.text, lines, width: options.width ?? 100, style: frameStyle(paint) };
  const blocks = sortDiagnostics(diagnostics).map((diagnostic) => renderOne(diagnostic, { path, paint, frame }));
  return [...blocks, summarize(diagnostics)].filter((block) => block !== '').join('\n\n');
}

/** Wraps text in a colour, or leaves it alone. */
type Paint = (format: Parameters<typeof styleText>[0], text: string) => string;

const plain: Paint = (_format, text) => text;
const colorful: Paint = (format, text) => styleText(format, text, { validateStream: false });

function frameStyle(paint: Paint): FrameStyle {
  return {
    gutter: (text) => paint('dim', text),
    primary: (text) => paint('red', text),
    secondary: (text) => paint('blue', text),
  };
}

interface Sheet {
  readonly path: string;
  readonly paint: Paint;
  readonly frame: FrameOptions;
}

function renderOne(diagnostic: Diagnostic, { path, paint, frame }: Sheet): string {
  const { severity, message, span, label, labels, hint } = diagnostic;
  const { line, column } = frame.lines.position(span.start);
  const word = paint(severity === 'error' ? ['red', 'bold'] : ['yellow', 'bold'], severity);
  const marks = [{ span, text: label, primary: true }, ...labels.map((other) => ({ ...other, primary: false }))];
  const rows = [`${path}:${line}:${column}: ${word}: ${paint('bold', printable(message))}`, ...codeFrame(marks, frame)];
  if (hint !== null) rows.push(`  ${paint('cyan', 'hint:')} ${printable(hint)}`);
  return rows.join('\n');
}

function shorterPath(path: string, cwd: string | undefined): string {
  const fromHere = cwd === undefined ? path : relative(cwd, path);
  return printable(fromHere !== '' && fromHere.length < path.length ? fromHere : path);
}

/** A finding for programs: lines and columns count from 1, columns in characters, the end is exclusive. */
export interface DiagnosticJson {
  readonly file: string;
  readonly line: number;
  readonly column: number;
  readonly endLine: number;
  readonly endColumn: number;
  readonly severity: Severity;
  readonly code: DiagnosticCode;
  readonly message: string;
  readonly hint: string | null;
}

/** The findings in source order as plain JSON. */
export function diagnosticsToJson(source: SourceFile, diagnostics: readonly Diagnostic[]): readonly DiagnosticJson[] {
  const lines = new LineIndex(source.text);
  return sortDiagnostics(diagnostics).map(({ span, severity, code, message, hint }) => {
    const start = lines.position(span.start);
    const end = lines.position(span.end);
    return {
      file: source.path,
      line: start.line,
      column: start.column,
      endLine: end.line,
      endColumn: end.column,
      severity,
      code,
      message,
      hint,
    };
  });
}

function complete(finding: Finding): Omit<Diagnostic, 'severity'> {
  return { ...finding, label: finding.label ?? null, labels: finding.labels ?? [], hint: finding.hint ?? null };
}

function count(number: number, word: string): string {
  if (number === 0) return '';
  return counted(number, word);
}
