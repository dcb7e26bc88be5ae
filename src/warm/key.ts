/**
 * Under which key a VM is frozen: a digest over everything that went into it, each part with its name. The parts are
 * kept, so that it can be told which one is another.
 */
import { createHash } from 'node:crypto';

/** Digests of the parts, by name. */
export type Components = Readonly<Record<string, string>>;

/** Changes with what is frozen and how it is restored: what another version of vmctl has frozen does not fit. */
export const FORMAT_VERSION = '3';

/** A short name for any plain value; objects count whatever the order of their keys. */
export function digestOf(value: unknown): string {
  return createHash('sha256')
    .update(JSON.stringify(sorted(value)))
    .digest('hex')
    .slice(0, 32);
}

/** The key for these parts, as a file name. */
export function keyOf(components: Components): string {
  return digestOf({ format: FORMAT_VERSION, components });
}

/** The names of the parts that differ, in the order of the new ones; those that are gone come last. */
export function differences(before: Components, now: Components): readonly string[] {
  const changed = Object.keys(now).filter((name) => before[name] !== now[name]);
  return [...changed, ...Object.keys(before).filter((name) => now[name] === undefined)];
}

function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted);
  if (typeof value !== 'object' || value === null) return value;
  const entries = Object.entries(value).toSorted(([a], [b]) => (a < b ? -1 : 1));
  return Object.fromEntries(entries.map(([key, inner]) => [key, sorted(inner)]));
}
