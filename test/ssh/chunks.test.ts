import { expect, test } from 'vitest';
import { type Content, inChunks } from '../../src/ssh/chunks.js';

const MIB = 1024 * 1024;

interface Seen {
  readonly pieces: readonly (readonly [position: number, length: number])[];
  /** How many chunks were under way at most. */
  readonly most: number;
}

/** Copies nothing, each chunk taking a moment; two that are under way must not share their memory. */
async function copy(content: Content): Promise<Seen> {
  const pieces: [number, number][] = [];
  const underWay = new Set<ArrayBufferLike>();
  let most = 0;
  await inChunks(content, async (position, { buffer, length }) => {
    expect(underWay.has(buffer)).toBe(false);
    underWay.add(buffer);
    most = Math.max(most, underWay.size);
    pieces.push([position, length]);
    await new Promise((resolve) => setImmediate(resolve));
    underWay.delete(buffer);
  });
  return { pieces, most };
}

test.each([
  { bytes: 5 * MIB + 17, limit: 255 * 1024 },
  { bytes: 5 * MIB + 17, limit: 31_952, window: 24 * 1024 },
  { bytes: 1, limit: 255 * 1024 },
  { bytes: 255 * 1024, limit: 255 * 1024 },
])('every byte of $bytes is copied once, in chunks that one request takes', async (content) => {
  const { pieces } = await copy(content);
  let end = 0;
  for (const [position, length] of pieces.toSorted(([a], [b]) => a - b)) {
    expect(position).toBe(end);
    expect(length).toBeLessThanOrEqual(content.limit);
    end += length;
  }
  expect(end).toBe(content.bytes);
});

test('nothing is copied of nothing', async () => {
  expect(await copy({ bytes: 0, limit: 1024 })).toEqual({ pieces: [], most: 0 });
});

test('several chunks are under way, but not long ones without an end', async () => {
  const { pieces, most } = await copy({ bytes: 20 * MIB, limit: 4 * 1024 * MIB });
  expect(most).toBeGreaterThan(1);
  expect(most * Math.max(...pieces.map(([, length]) => length))).toBeLessThanOrEqual(2 * MIB);
});

test('one chunk at a time goes to a server that takes less than it at once', async () => {
  expect(await copy({ bytes: 5 * MIB, limit: 255 * 1024, window: 24 * 1024 })).toMatchObject({ most: 1 });
  expect(await copy({ bytes: 5 * MIB, limit: 255 * 1024, window: 0 })).toMatchObject({ most: 1 });
});

test('after a failure no other chunk is begun, and those under way are told', async () => {
  const begun: number[] = [];
  const told: boolean[] = [];
  const copying = inChunks({ bytes: 20 * MIB, limit: 255 * 1024 }, async (position, _chunk, stopped) => {
    begun.push(position);
    if (position === 0) throw new Error('no space left');
    await new Promise((resolve) => setImmediate(resolve));
    told.push(stopped());
  });
  await expect(copying).rejects.toThrow('no space left');
  expect(begun.length).toBeLessThan(10);
  expect(told).not.toContain(false);
});
