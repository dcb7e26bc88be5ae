import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { didYouMean, editDistance, suggest } from '../../src/vmfile/suggest.js';

const NODES = ['image', 'image-url', 'image-preset', 'memory', 'disk', 'network', 'ssh', 'vcpus'];

describe('a suggestion', () => {
  it.each([
    ['memry', 'memory'],
    ['mmeory', 'memory'],
    ['Memory', 'memory'],
    ['imgae', 'image'],
    ['image_url', 'image-url'],
    ['vcpu', 'vcpus'],
    ['cpus', 'vcpus'],
    ['shs', 'ssh'],
    ['netwrok', 'network'],
  ])('for %j is %j', (word, near) => {
    expect(suggest(word, NODES)).toBe(near);
  });

  it.each(['colour', 'xyz', '', 'a'])('for %j is none, because nothing is near', (word) => {
    expect(suggest(word, NODES)).toBeNull();
  });

  it('is a hint ready to be shown', () => {
    expect(didYouMean('memry', NODES)).toBe('did you mean `memory`?');
    expect(didYouMean('xyz', NODES)).toBeUndefined();
  });
});

describe('the distance of two words', () => {
  it('counts a swap of neighbours once', () => {
    expect(editDistance('ab', 'ba')).toBe(1);
    expect(editDistance('kitten', 'sitting')).toBe(3);
    expect(editDistance('', 'abc')).toBe(3);
  });

  it('is the same both ways, and none only between equal words', () => {
    fc.assert(
      fc.property(fc.string({ maxLength: 8 }), fc.string({ maxLength: 8 }), (a, b) => {
        expect(editDistance(a, b)).toBe(editDistance(b, a));
        expect(editDistance(a, b) === 0).toBe(a === b);
        expect(editDistance(a, b)).toBeLessThanOrEqual(Math.max(a.length, b.length));
      }),
    );
  });
});
