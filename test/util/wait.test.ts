import { spawn } from 'node:child_process';
import { once } from 'node:events';
import * as timers from 'node:timers/promises';
import { beforeEach, describe, expect, test, vi } from 'vitest';
import { VmctlError } from '../../src/errors.js';
import { backOff, pause, settlesWithin, throwIfAborted, waitFor, withDeadline } from '../../src/util/wait.js';

vi.mock('node:timers/promises', { spy: true });

const never = new Promise<never>(() => {});

beforeEach(() => {
  vi.mocked(timers.setTimeout).mockClear();
});

/** That no timer of this test keeps the process from ending. */
function expectNoTimer(): void {
  const signals = vi.mocked(timers.setTimeout).mock.calls.map(([, , options]) => options?.signal?.aborted);
  expect(signals).toEqual(signals.map(() => true));
}

test('the delays begin at 20 ms, grow by half, and end at 250 ms', () => {
  const delays = backOff();
  const first = Array.from({ length: 9 }, () => delays.next().value);
  expect(first).toEqual([20, 30, 45, 67.5, 101.25, 151.875, 227.8125, 250, 250]);
});

describe('waiting for something', () => {
  test('looks at once, and again until it is there', async () => {
    let looks = 0;
    const look = async () => {
      looks += 1;
      return looks < 3 ? null : 'there';
    };
    expect(await waitFor(look, { timeoutMs: 5_000 })).toBe('there');
    expect(looks).toBe(3);
  });

  test('takes everything but null for an answer', async () => {
    expect(await waitFor(async () => false, { timeoutMs: 0 })).toBe(false);
    expect(await waitFor(async () => 0, { timeoutMs: 0 })).toBe(0);
  });

  test('looks exactly once where there is no time', async () => {
    let looks = 0;
    const look = async () => {
      looks += 1;
      return null;
    };
    expect(await waitFor(look, { timeoutMs: 0 })).toBeNull();
    expect(looks).toBe(1);
  });

  test('ends at its deadline and not at the next longer delay', async () => {
    const start = performance.now();
    expect(await waitFor(async () => null, { timeoutMs: 120 })).toBeNull();
    expect(performance.now() - start).toBeGreaterThanOrEqual(118);
    const slept = vi.mocked(timers.setTimeout).mock.calls.map(([delay = 0]) => delay);
    expect(slept.slice(0, 2)).toEqual([20, 30]);
    // Never longer than what is left; a timer may be a millisecond early.
    let left = 120;
    for (const delay of slept) {
      expect(delay).toBeLessThanOrEqual(left + 5);
      left -= delay;
    }
  });

  test('looks once more at the very end', async () => {
    const start = performance.now();
    const look = async () => (performance.now() - start >= 99 ? 'late' : null);
    expect(await waitFor(look, { timeoutMs: 100 })).toBe('late');
  });

  test('is cancelled between two looks, and before the first', async () => {
    const controller = new AbortController();
    const wait = waitFor(
      async () => {
        queueMicrotask(() => controller.abort());
        return null;
      },
      { timeoutMs: 60_000, signal: controller.signal },
    );
    await expect(wait).rejects.toMatchObject({ code: 'ABORTED' });
    let looked = false;
    const look = async () => {
      looked = true;
      return 1;
    };
    await expect(waitFor(look, { timeoutMs: 10, signal: AbortSignal.abort() })).rejects.toMatchObject({
      code: 'ABORTED',
    });
    expect(looked).toBe(false);
  });

  test('throws what the look throws', async () => {
    await expect(waitFor(() => Promise.reject(new Error('no')), { timeoutMs: 60_000 })).rejects.toThrow('no');
    expectNoTimer();
  });
});

describe('a pause', () => {
  test('ends with ABORTED when cancelled, and keeps the reason', async () => {
    const controller = new AbortController();
    const paused = pause(60_000, controller.signal);
    controller.abort(new Error('Ctrl-C'));
    await expect(paused).rejects.toMatchObject({ code: 'ABORTED' });
    expectNoTimer();
  });
});

describe('settling within a time', () => {
  test('is true for a promise that resolves or rejects in time', async () => {
    expect(await settlesWithin(Promise.resolve(), 60_000)).toBe(true);
    expect(await settlesWithin(Promise.reject(new Error('no')), 60_000)).toBe(true);
    expectNoTimer();
  });

  test('is false when the time is up first', async () => {
    expect(await settlesWithin(never, 20)).toBe(false);
    expectNoTimer();
  });

  test('is cancelled, also when it has settled meanwhile', async () => {
    const controller = new AbortController();
    const settling = settlesWithin(never, 60_000, controller.signal);
    controller.abort();
    await expect(settling).rejects.toMatchObject({ code: 'ABORTED' });
    await expect(settlesWithin(Promise.resolve(), 10, controller.signal)).rejects.toMatchObject({ code: 'ABORTED' });
    expectNoTimer();
  });
});

/** Nothing of this process runs meanwhile, and other processes have all this time. Timers come first then. */
async function standStill(milliseconds: number): Promise<void> {
  await new Promise(setImmediate);
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, milliseconds);
}

describe('a deadline', () => {
  const late = () => new VmctlError('TIMEOUT', 'too late');

  test('gives the value that comes in time', async () => {
    expect(await withDeadline(Promise.resolve(7), 60_000, late)).toBe(7);
    expectNoTimer();
  });

  test('throws what the promise throws', async () => {
    await expect(withDeadline(Promise.reject(new Error('no')), 60_000, late)).rejects.toThrow('no');
    expectNoTimer();
  });

  test('throws its own error when it has passed', async () => {
    await expect(withDeadline(never, 20, late)).rejects.toMatchObject({ code: 'TIMEOUT', message: 'too late' });
    expectNoTimer();
  });

  test('that passes while this process stands still lets in what has come meanwhile', async () => {
    const { stdout } = spawn('echo', ['in time'], { stdio: ['ignore', 'pipe', 'ignore'] });
    const data = once(stdout, 'data');
    const said = withDeadline(data, 20, late);
    const settled = settlesWithin(data, 20);
    await standStill(1_000);
    expect(String(await said)).toBe('in time\n');
    expect(await settled).toBe(true);
  });

  test('that has passed does not make a later failure of the promise unhandled', async () => {
    let fail: (error: Error) => void = () => {};
    const promise = new Promise<never>((_resolve, reject) => (fail = reject));
    await expect(withDeadline(promise, 10, late)).rejects.toThrow('too late');
    fail(new Error('nobody listens'));
    // An unhandled rejection would fail the test run.
    await new Promise(setImmediate);
  });
});

test('a cancelled signal throws ABORTED with its reason as cause; others and none do not', () => {
  const reason = new Error('Ctrl-C');
  expect(() => throwIfAborted(AbortSignal.abort(reason))).toThrow(expect.objectContaining({ code: 'ABORTED' }));
  expect(() => throwIfAborted(new AbortController().signal)).not.toThrow();
  expect(() => throwIfAborted(undefined)).not.toThrow();
});
