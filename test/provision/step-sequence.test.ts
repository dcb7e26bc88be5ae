import { expect, test } from 'vitest';
import { silentReporter } from '../../src/model/event.js';
import type { RunPolicy } from '../../src/model/definition.js';
import type { ProvisionStep, StepSuccess } from '../../src/model/spec.js';
import { runInOrder } from '../../src/provision/step-sequence.js';
import { gate } from '../support/rig.js';

function shell(text: string, run: RunPolicy = 'always'): ProvisionStep {
  return { kind: 'shell', command: { kind: 'inline', text }, environment: {}, run, timeoutSeconds: null };
}

const STEPS = ['one', 'two', 'three'].map((text) => shell(text));
const calm = { reporter: silentReporter, signal: new AbortController().signal };
const numbers = (history: readonly StepSuccess[] | undefined) => history?.map(({ number }) => number);

test('the next step does not wait until a success is written down, and the end does', async () => {
  const written: (readonly StepSuccess[])[] = [];
  const disk = gate();
  const remember = async (history: readonly StepSuccess[]) => {
    await disk.passed;
    written.push(history);
  };
  const ran: number[] = [];
  let ended = false;
  const all = runInOrder(STEPS, { ...calm, history: [], remember }, async (_step, number) => {
    ran.push(number);
    // A disk that waits for the last step would never be done if the steps waited for it.
    if (number === 3) setImmediate(() => disk.open());
  }).then((counts) => {
    ended = true;
    return counts;
  });
  await disk.passed;
  expect({ ran, ended }).toEqual({ ran: [1, 2, 3], ended: false });
  expect(await all).toEqual({ run: 3, skipped: 0 });
  expect(numbers(written.at(-1))).toEqual([1, 2, 3]);
  // What came meanwhile was written together.
  expect(written.length).toBeLessThan(STEPS.length);
});

test('what succeeded before the step that failed is remembered when the failure is told', async () => {
  const written: (readonly StepSuccess[])[] = [];
  const remember = async (history: readonly StepSuccess[]) => {
    await new Promise((resolve) => setImmediate(resolve));
    written.push(history);
  };
  const failing = runInOrder(STEPS, { ...calm, history: [], remember }, async (_step, number) => {
    if (number === 3) throw new Error('step three');
  });
  await expect(failing).rejects.toThrow('step three');
  expect(numbers(written.at(-1))).toEqual([1, 2]);
});

test('a success that cannot be written down is a failure', async () => {
  const remember = async () => {
    throw new Error('disk full');
  };
  await expect(runInOrder(STEPS, { ...calm, history: [], remember }, async () => {})).rejects.toThrow('disk full');
});

test('an edited step begins when it is written down that it has not succeeded as it is now', async () => {
  const steps = [shell('one, edited', 'on-change')];
  const history = [{ number: 1, digest: 'of how it was' }];
  let known: readonly StepSuccess[] = history;
  const remember = async (now: readonly StepSuccess[]) => {
    await new Promise((resolve) => setImmediate(resolve));
    known = now;
  };
  const seen: (readonly StepSuccess[])[] = [];
  await runInOrder(steps, { ...calm, history, remember }, async () => void seen.push(known));
  expect(seen).toEqual([[]]);
  expect(numbers(known)).toEqual([1]);
});
