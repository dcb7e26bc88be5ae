import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { plainProgress } from '../../presets/testing/progress.js';
import type { VmEvent, VmEventBody } from '../../src/model/event.js';

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval', 'performance'] });
});

afterEach(() => {
  vi.useRealTimers();
});

function eventOf(vm: string | null, body: VmEventBody): VmEvent {
  return { time: 0, vm, step: 'provision', ...body };
}

test('what goes on is told line by line, with the name of the VM, and what guests print is not', () => {
  const lines: string[] = [];
  const { onEvent, stop } = plainProgress((line) => lines.push(line));
  onEvent(eventOf('web', { type: 'status', text: 'waiting for SSH' }));
  onEvent(eventOf('web', { type: 'log', stream: 'stdout', line: 'Reading package lists...' }));
  onEvent(eventOf(null, { type: 'log', stream: 'note', line: 'no KVM' }));
  onEvent(eventOf('web', { type: 'done', summary: '2 steps run', durationMs: 1500 }));
  stop();
  expect(lines).toEqual([
    'web │ provision: waiting for SSH',
    'provision: no KVM',
    'web │ provision: 2 steps run (1.5 s)',
  ]);
});

test('when nothing has happened for a while, a line says what is waited for, as long as something is', async () => {
  const lines: string[] = [];
  const { onEvent, stop } = plainProgress((line) => lines.push(line));
  onEvent(eventOf('web', { type: 'status', text: 'waiting for SSH' }));
  onEvent(eventOf('db', { type: 'status', text: 'step 1/2' }));
  await vi.advanceTimersByTimeAsync(14_000);
  expect(lines).toHaveLength(2);
  await vi.advanceTimersByTimeAsync(2_000);
  expect(lines.slice(2)).toEqual([
    'still at it after 15.0 s: web │ provision: waiting for SSH; db │ provision: step 1/2',
  ]);
  onEvent(eventOf('web', { type: 'done', summary: '', durationMs: 1 }));
  onEvent(eventOf('db', { type: 'done', summary: '', durationMs: 1 }));
  await vi.advanceTimersByTimeAsync(60_000);
  expect(lines).toHaveLength(5);
  stop();
});
