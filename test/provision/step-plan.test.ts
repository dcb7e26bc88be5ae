import { describe, expect, it } from 'vitest';
import type { RunPolicy } from '../../src/model/definition.js';
import { carriedOver, planSteps, withSuccess } from '../../src/provision/step-plan.js';

const POLICIES: readonly RunPolicy[] = ['always', 'once', 'on-change', 'each'];

/** `once:abc` is a step that runs once and does "abc". */
function plan(steps: readonly string[], history: readonly string[] = []) {
  const facts = steps.map((step) => {
    const [policy, digest] = step.split(':');
    const run = POLICIES.find((known) => known === policy) ?? 'always';
    return { run, digest: digest === '?' ? null : (digest ?? '') };
  });
  return planSteps(
    facts,
    history.map((digest, index) => ({ number: index + 1, digest })),
  );
}

function runs(steps: readonly string[], history: readonly string[] = []): readonly boolean[] {
  return plan(steps, history).map((decision) => decision.runs);
}

describe('a step that has not succeeded yet', () => {
  it.each(['always:a', 'once:a', 'on-change:a'])('%s is run', (step) => {
    expect(runs([step])).toEqual([true]);
  });
});

describe('a step that has succeeded', () => {
  it.each([
    ['always:a', true, 'always'],
    ['each:a', true, 'on each VM'],
    ['once:a', false, 'succeeded before (once)'],
    ['on-change:a', false, 'has not changed'],
  ])('%s: runs again %s', (step, again, reason) => {
    expect(plan([step], ['a'])).toMatchObject([{ runs: again, reason }]);
  });

  it.each([
    ['always:b', true, 'always'],
    ['once:b', false, 'succeeded before (once); what it does has changed since'],
    ['on-change:b', true, 'what it does has changed'],
  ])('and was edited, %s: runs again %s', (step, again, reason) => {
    expect(plan([step], ['a'])).toMatchObject([{ runs: again, reason }]);
  });

  it('is run when a file of it cannot be read any more, so that the failure is told', () => {
    expect(runs(['on-change:?'], ['a'])).toEqual([true]);
  });
});

it('knows its steps again when another one is put before them', () => {
  expect(runs(['once:new', 'once:a', 'on-change:b'], ['a', 'b'])).toEqual([true, false, false]);
});

it('knows its steps again when they change places', () => {
  expect(runs(['once:b', 'once:a'], ['a', 'b'])).toEqual([false, false]);
});

it('does not take one success for two steps', () => {
  expect(runs(['once:a', 'once:a'], ['a'])).toEqual([false, true]);
});

it('remembers successes at the places where the steps are now, and forgets those of steps that are gone', () => {
  const history = carriedOver(plan(['once:new', 'once:b'], ['a', 'b']));
  expect(history).toEqual([
    { number: 1, digest: 'a' },
    { number: 2, digest: 'b' },
  ]);
  expect(withSuccess(history, { number: 1, digest: 'new' })).toEqual([
    { number: 1, digest: 'new' },
    { number: 2, digest: 'b' },
  ]);
  expect(carriedOver(plan(['once:b'], ['a', 'b', 'c']))).toEqual([{ number: 1, digest: 'b' }]);
});
