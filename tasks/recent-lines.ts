/** The last lines of a console, for somebody who was not there when they were printed. */
import { printable } from './progress-text.js';

/**
 * The last lines of a text, as a terminal would have shown them, but without control sequences: a query of the guest,
 * repeated here, would be answered to it once more. A last line that is not finished stays so.
 */
export function recentLines(text: string, count: number): string {
  const lines = text.split('\n');
  const finished = lines.at(-1) === '';
  const shown = lines.slice(finished ? -count - 1 : -count).map((line) => printable(lastState(line)));
  return shown.join('\n');
}

/** What stands after the last carriage return that something follows. */
function lastState(line: string): string {
  const text = line.replace(/\r+$/, '');
  return text.slice(text.lastIndexOf('\r') + 1);
}
