import { expect, test } from 'vitest';
import { type ImageFacts, type ImagePolicy, ageText, chooseImages } from '../../tasks/image-policy.js';

const DAY = 86_400_000;
const NOW = Date.parse('2026-06-01T00:00:00Z');

/** An image of ten bytes that was last used so many days ago. */
const image = (path: string, days: number, more: Partial<ImageFacts> = {}): ImageFacts => ({
  path,
  bytes: 10,
  lastUsedAt: NOW - days * DAY,
  names: [],
  users: [],
  ...more,
});

function chosen(images: readonly ImageFacts[], policy: Partial<ImagePolicy>) {
  return chooseImages(images, { olderThanSeconds: null, budgetBytes: null, now: NOW, busySince: null, ...policy });
}

const paths = (images: readonly ImageFacts[], policy: Partial<ImagePolicy>) =>
  chosen(images, policy).doomed.map(({ path }) => path);

const THREE = [image('new', 1), image('old', 40), image('middle', 10)];

test('without a limit every image stays', () => {
  expect(chosen(THREE, {})).toEqual({ doomed: [], overBudgetBytes: 0 });
});

test('images that were not used for longer than the limit go, with that as the reason', () => {
  const { doomed } = chosen(THREE, { olderThanSeconds: (30 * DAY) / 1000 });
  expect(doomed).toEqual([
    { path: 'old', bytes: 10, lastUsedAt: NOW - 40 * DAY, why: 'no VM has used it for 40 days' },
  ]);
  expect(paths(THREE, { olderThanSeconds: (40 * DAY) / 1000 })).toEqual([]);
  expect(paths(THREE, { olderThanSeconds: 0 })).toEqual(['old', 'middle', 'new']);
});

test('over the budget, those that were not used for longest go until the others fit', () => {
  expect(paths(THREE, { budgetBytes: 30 })).toEqual([]);
  expect(paths(THREE, { budgetBytes: 29 })).toEqual(['old']);
  expect(paths(THREE, { budgetBytes: 19 })).toEqual(['old', 'middle']);
  expect(chosen(THREE, { budgetBytes: 29 }).doomed[0]?.why).toBe(
    'the cache is over its budget, and no VM has used it for 40 days',
  );
});

test('what goes by its age counts no more for the budget', () => {
  expect(paths(THREE, { olderThanSeconds: (30 * DAY) / 1000, budgetBytes: 20 })).toEqual(['old']);
});

test('an image that a VM stands on, that has a name, or that a running vmctl may be using stays and counts', () => {
  const kept = [
    image('used', 50, { users: ['web'] }),
    image('named', 50, { names: ['debian'] }),
    image('taken', 2),
    image('free', 3),
  ];
  expect(chosen(kept, { olderThanSeconds: 0, budgetBytes: 5, busySince: NOW - 2 * DAY })).toMatchObject({
    doomed: [{ path: 'free' }],
    overBudgetBytes: 25,
  });
});

test('a clock that was set back removes nothing by age', () => {
  expect(paths([image('future', -3)], { olderThanSeconds: 0 })).toEqual([]);
});

test.each([
  [0, 'less than a minute'],
  [60_000, '1 minute'],
  [3_599_999, '59 minutes'],
  [2 * 3_600_000, '2 hours'],
  [DAY, '1 day'],
])('an age of %d ms is told as %s', (milliseconds, text) => {
  expect(ageText(milliseconds)).toBe(text);
});
