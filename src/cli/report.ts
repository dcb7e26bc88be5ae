/** What a person or a program reads: errors, one line an event, or JSON. */
import type { VmEvent } from '../model/event.js';
import { eventText } from '../../tasks/event-lines.js';
import type { VmctlError } from '../errors.js';
import { capitalised } from '../util/words.js';
import type { Cli } from './cli.js';
import { painter, wantsColor } from './style.js';

/** The version of every JSON document that vmctl prints. */
export const SCHEMA_VERSION = 1;

/** `error: …`, what belongs to it indented below, and the next step. */
export function printError(cli: Cli, error: VmctlError): void {
  const color = wantsColor(cli.stderr, cli.variables);
  const options = { color, cwd: cli.cwd, ...(cli.stderr.columns === undefined ? {} : { width: cli.stderr.columns }) };
  const whole = error.render(options);
  if (whole !== null) {
    cli.stderr.write(`${whole.trimEnd()}\n`);
    return;
  }
  const paint = painter(color);
  cli.stderr.write(`${paint(['red', 'bold'], 'error:')} ${error.message}\n`);
  if (error.details !== null) cli.stderr.write(`${paint('dim', indent(error.details))}\n`);
  // Hints from a VMFile's findings begin as those do, in the middle of a sentence.
  if (error.hint !== null) cli.stderr.write(`${paint('cyan', 'hint:')} ${capitalised(error.hint)}\n`);
  const debug = cli.variables['VMCTL_DEBUG'];
  if ((debug !== undefined && debug !== '') || error.code === 'INTERNAL') printStacks(cli, error);
}

function printStacks(cli: Cli, error: unknown): void {
  for (let at: unknown = error; at instanceof Error; at = at.cause) cli.stderr.write(`${at.stack ?? at.message}\n`);
}

/** vmctl's own remark. */
export function printNote(cli: Pick<Cli, 'stderr' | 'variables'>, text: string): void {
  const paint = painter(wantsColor(cli.stderr, cli.variables));
  cli.stderr.write(`${paint('yellow', 'note:')} ${text}\n`);
}

export function printJson(cli: Cli, document: Readonly<Record<string, unknown>>): void {
  cli.stdout.write(`${JSON.stringify({ schemaVersion: SCHEMA_VERSION, ...document }, null, 2)}\n`);
}

/** One object a line, for streams. */
export function printJsonLine(cli: Cli, document: object): void {
  cli.stdout.write(`${JSON.stringify({ schemaVersion: SCHEMA_VERSION, ...document })}\n`);
}

/** One plain line an event, prefixed with the VM's name, all prefixes equally wide. */
export function lineListener(
  cli: Pick<Cli, 'stderr' | 'variables'>,
  names: readonly string[],
): (event: VmEvent) => void {
  const paint = painter(wantsColor(cli.stderr, cli.variables));
  const width = Math.max(...names.map((name) => name.length), 0);
  const textOf = eventText();
  return (event) => {
    // What concerns the host, and no VM's step.
    if (event.vm === null && event.type === 'log') {
      printNote(cli, event.line);
      return;
    }
    const text = textOf(event);
    if (text === null) return;
    const prefix = event.vm === null ? '' : `${event.vm.padEnd(width)} │ `;
    for (const line of text.split('\n')) cli.stderr.write(`${paint('cyan', prefix)}${line}\n`);
  };
}

function indent(text: string): string {
  return text
    .split('\n')
    .map((line) => `    ${line}`)
    .join('\n');
}

/** Columns as wide as their widest cell, two spaces between them; numbers are the caller's text. */
export function table(header: readonly string[], rows: readonly (readonly string[])[]): string {
  const widths = header.map((title, i) => Math.max(title.length, ...rows.map((row) => row[i]?.length ?? 0)));
  const line = (cells: readonly string[]) =>
    cells
      .map((cell, i) => cell.padEnd(widths[i] ?? 0))
      .join('  ')
      .trimEnd();
  return `${[header, ...rows].map(line).join('\n')}\n`;
}

/** One fact a line: labels in a column of their own. */
export function pairs(facts: readonly (readonly [string, string])[]): string {
  const width = Math.max(...facts.map(([label]) => label.length));
  return facts.map(([label, value]) => `${label.padEnd(width)}  ${value}\n`).join('');
}
