/** What is going on while VMs come up, as plain lines that fit into the log of any test runner. */
import { eventText } from '../../tasks/event-lines.js';
import { durationText } from '../../tasks/progress-text.js';
import type { EventListener } from '../../src/index.js';

/** After so long without a line, one says what is waited for: CI ends what says nothing, and people do so earlier. */
const SILENCE_MS = 15_000;

export interface PlainProgress {
  readonly onEvent: EventListener;
  /** No more lines. */
  readonly stop: () => void;
}

/** What guests print is left out: a test run is not about it, and the artefacts of a failing one have it. */
export function plainProgress(print: (line: string) => void): PlainProgress {
  const textOf = eventText();
  const begun = performance.now();
  const current = new Map<string, string>();
  let told = begun;
  const tell = (line: string): void => {
    told = performance.now();
    print(line);
  };
  const beat = (): void => {
    const now = performance.now();
    if (now - told < SILENCE_MS || current.size === 0) return;
    tell(`still at it after ${durationText(now - begun)}: ${[...current.values()].join('; ')}`);
  };
  const timer = setInterval(beat, SILENCE_MS / 3);
  timer.unref();
  return {
    onEvent: (event) => {
      if (event.type === 'log' && event.stream !== 'note') return;
      const text = textOf(event);
      const lines =
        text === null ? [] : text.split('\n').map((line) => (event.vm === null ? line : `${event.vm} │ ${line}`));
      const key = event.vm ?? '';
      if (event.type === 'done' || event.type === 'failed') current.delete(key);
      else if (lines[0] !== undefined) current.set(key, lines[0]);
      for (const line of lines) tell(line);
    },
    stop: () => clearInterval(timer),
  };
}
