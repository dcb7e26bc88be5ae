/** Events as plain lines, for whoever has no tree: a terminal that cannot move its cursor, a log of CI, a test runner. */
import type { VmEvent } from '../src/model/event.js';
import { durationText, printable, rateReader } from './progress-text.js';

const PROGRESS_EVERY_MS = 5_000;

/** Gives the text for each event, of several lines where it has several; null for one that is not worth a line. */
export function eventText(): (event: VmEvent) => string | null {
  const progress = new Map<string, ProgressLine>();
  return (event) => (event.type === 'progress' ? progressLine(event, progress) : lineOf(event));
}

interface ProgressLine {
  readonly read: ReturnType<typeof rateReader>;
  /** When the last line came, in milliseconds since the epoch. */
  told: number;
}

type ProgressEvent = Extract<VmEvent, { readonly type: 'progress' }>;

/** Every progress counts for the rate, and few are worth a line. */
function progressLine(event: ProgressEvent, lines: Map<string, ProgressLine>): string | null {
  const key = `${event.vm} ${event.step}`;
  const line = lines.get(key) ?? { read: rateReader(), told: 0 };
  lines.set(key, line);
  const text = line.read(event);
  if (event.time - line.told < PROGRESS_EVERY_MS) return null;
  line.told = event.time;
  return `${event.step}: ${text}`;
}

function lineOf(event: Exclude<VmEvent, ProgressEvent>): string | null {
  switch (event.type) {
    case 'started':
      return event.step === 'provision' || event.step === 'start' ? `${event.step} …` : null;
    case 'status':
      return `${event.step}: ${event.text}`;
    case 'log':
      return event.stream === 'note' ? `${event.step}: ${event.line}` : `  ${printable(event.line)}`;
    case 'skipped':
      return `${event.step}: skipped, ${event.reason}`;
    case 'failed':
      // The whole of it is printed at the end, where it is looked for.
      return `${event.step}: ${event.error.code === 'ABORTED' ? 'interrupted' : 'FAILED, told at the end'}`;
    case 'done':
      return `${event.step}: ${event.summary === '' ? 'done' : event.summary} (${durationText(event.durationMs)})`;
  }
}
