import { EventEmitter } from 'node:events';
import { expect, test } from 'vitest';
import { listenForInterrupts } from '../../src/cli/interrupt.js';

class Signals extends EventEmitter {
  readonly told: (string | number)[] = [];

  exit(code: number): void {
    this.told.push(code);
  }
}

test('the first signal asks the command to stop, the second says a last word and ends the process', () => {
  const source = new Signals();
  const { told } = source;
  const words = { stopping: () => told.push('stopping'), leaving: () => told.push('leaving') };
  const interrupts = listenForInterrupts(words, source);
  expect(interrupts.exitCode()).toBeNull();
  source.emit('SIGINT');
  expect(told).toEqual(['stopping']);
  expect(interrupts.signal.aborted).toBe(true);
  expect(interrupts.exitCode()).toBe(130);
  source.emit('SIGTERM');
  expect(told).toEqual(['stopping', 'leaving', 143]);
  interrupts.dispose();
  expect(source.eventNames()).toEqual([]);
});
