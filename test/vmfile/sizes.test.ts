import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { parseDuration, parseSize } from '../../src/vmfile/sizes.js';

describe('a size', () => {
  it.each([
    ['2GiB', 2_147_483_648],
    ['2 GiB', 2_147_483_648],
    ['2G', 2_147_483_648],
    ['2g', 2_147_483_648],
    ['512MiB', 536_870_912],
    ['512M', 536_870_912],
    ['1KiB', 1024],
    ['1K', 1024],
    ['1TiB', 1_099_511_627_776],
    ['1T', 1_099_511_627_776],
    ['1kB', 1000],
    ['20GB', 20_000_000_000],
    ['3MB', 3_000_000],
    ['1TB', 1_000_000_000_000],
    ['1.5GiB', 1_610_612_736],
    ['0.5K', 512],
    ['512B', 512],
    [' 1MiB ', 1_048_576],
  ])('%j is %i bytes', (text, bytes) => {
    expect(parseSize(text)).toStrictEqual({ ok: true, value: bytes });
  });

  it.each([
    ['', '"" is not a size'],
    ['GiB', '"GiB" is not a size'],
    ['-1GiB', '"-1GiB" is not a size'],
    ['1,5GiB', '"1,5GiB" is not a size'],
    ['1GiB 2MiB', '"1GiB 2MiB" is not a size'],
    ['2048', '"2048" has no unit'],
    ['2QiB', '"2QiB" has the unknown unit "QiB"'],
    ['1constructor', '"1constructor" has the unknown unit "constructor"'],
    ['0.3K', '"0.3K" is not a whole number of bytes'],
    ['9999999TiB', '"9999999TiB" is too large'],
  ])('%j is none: %s', (text, problem) => {
    expect(parseSize(text)).toStrictEqual({ ok: false, problem });
  });

  it('is read back whatever the unit and the spaces', () => {
    const units = fc.constantFrom<readonly [string, number]>(
      ['KiB', 2 ** 10],
      ['MiB', 2 ** 20],
      ['GiB', 2 ** 30],
      ['kB', 1e3],
      ['MB', 1e6],
      ['GB', 1e9],
    );
    fc.assert(
      fc.property(
        fc.nat({ max: 1_000_000 }),
        units,
        fc.constantFrom('', ' ', '  '),
        (number, [unit, factor], space) => {
          expect(parseSize(`${number}${space}${unit}`)).toStrictEqual({ ok: true, value: number * factor });
        },
      ),
    );
  });
});

describe('a duration', () => {
  it.each([
    ['90s', 90],
    ['2m', 120],
    ['1h30m', 5400],
    ['1h 30m', 5400],
    ['500ms', 0.5],
    ['1s1ms', 1.001],
    ['1.5h', 5400],
    ['1d', 86_400],
    ['2M', 120],
    ['0s', 0],
  ])('%j is %d seconds', (text, seconds) => {
    expect(parseDuration(text)).toStrictEqual({ ok: true, value: seconds });
  });

  it.each([
    ['', '"" is not a duration'],
    ['soon', '"soon" is not a duration'],
    ['-1s', '"-1s" is not a duration'],
    ['1s,', '"1s," is not a duration'],
    ['90', '"90" has no unit'],
    ['5 weeks', '"5 weeks" has the unknown unit "weeks"'],
    ['1toString', '"1toString" has the unknown unit "toString"'],
    ['30m1h', '"30m1h" does not go from larger units to smaller ones'],
    ['1m1m', '"1m1m" does not go from larger units to smaller ones'],
    ['0.5ms', '"0.5ms" is not a whole number of milliseconds'],
    ['99999999999999d', '"99999999999999d" is too long'],
  ])('%j is none: %s', (text, problem) => {
    expect(parseDuration(text)).toStrictEqual({ ok: false, problem });
  });

  it('is the sum of its parts, to the millisecond', () => {
    const part = fc.nat({ max: 999 });
    fc.assert(
      fc.property(part, part, part, part, (h, m, s, ms) => {
        const value = (h * 3_600_000 + m * 60_000 + s * 1000 + ms) / 1000;
        expect(parseDuration(`${h}h${m}m${s}s${ms}ms`)).toStrictEqual({ ok: true, value });
      }),
    );
  });
});

describe('any text', () => {
  it('is a size, a duration or a problem, never an exception', () => {
    fc.assert(
      fc.property(fc.string(), (text) => {
        for (const result of [parseSize(text), parseDuration(text)]) {
          expect(result.ok ? result.value >= 0 : result.problem !== '').toBe(true);
        }
      }),
    );
  });
});
