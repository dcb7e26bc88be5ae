/** How option values of the command line are read. A wrong one is a usage error that says what was expected. */
import { InvalidArgumentError } from 'commander';
import { readAge, readBytes, readPositive, readSeconds } from './config-keys.js';

/** Gathers a repeated option. */
export function collect(value: string, previous: readonly string[]): readonly string[] {
  return [...previous, value];
}

export function positiveOption(value: string): number {
  const read = readPositive(value);
  if ('value' in read) return read.value;
  throw new InvalidArgumentError(`It must be ${read.expected}.`);
}

/** Seconds. */
export function durationOption(value: string): number {
  const read = readSeconds(value);
  if ('value' in read) return read.value;
  throw new InvalidArgumentError(`It must be ${read.expected}.`);
}

/** Seconds of an age. */
export function ageOption(value: string): number {
  const read = readAge(value);
  if ('value' in read) return read.value;
  throw new InvalidArgumentError(`It must be ${read.expected}.`);
}

/** Bytes. */
export function bytesOption(value: string): number {
  const read = readBytes(value);
  if ('value' in read) return read.value;
  throw new InvalidArgumentError(`It must be ${read.expected}.`);
}
