import { expect, test } from 'vitest';
import { lineListener } from '../../src/cli/report.js';
import { EventHub } from '../../tasks/context.js';

test('what concerns the host is a note among the lines of the VMs, and belongs to no step', () => {
  const lines: string[] = [];
  const stderr = { write: (text: string | Uint8Array) => lines.push(String(text)) };
  const events = new EventHub();
  events.subscribe(lineListener({ stderr, variables: {} }, ['web', 'database']));
  events.reporter(null, 'start').log('guests run slowly');
  events.reporter('web', 'start').log('it is late');
  expect(lines).toEqual(['note: guests run slowly\n', 'web      │ start: it is late\n']);
});
