/**
 * The corpus of broken VMFiles: beside each `NAME.kdl` stands `NAME.txt`, everything that the user is told about it.
 * Each text was read and judged before it was put there; do the same before changing one.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { report } from './report.js';

const folder = join(import.meta.dirname, '../fixtures/vmfile/broken');
const names = readdirSync(folder)
  .filter((file) => file.endsWith('.kdl'))
  .map((file) => file.slice(0, -'.kdl'.length));

describe('a broken VMFile', () => {
  it('is one of a corpus of at least 60', () => {
    expect(names.length).toBeGreaterThanOrEqual(60);
  });

  it.each(names)('%s is explained', async (name) => {
    const text = readFileSync(join(folder, `${name}.kdl`), 'utf8');
    const expected = readFileSync(join(folder, `${name}.txt`), 'utf8');
    expect(`${await report(text)}\n`).toBe(expected);
  });
});
