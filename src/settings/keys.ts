/** The settings that there are: their names, what a value must be, and how a variable spells them. */
import * as v from 'valibot';
import { PULL_POLICIES } from '../model/pull-policy.js';
import type { WarmLevel } from '../model/warm.js';
import { parseDuration, parseSize } from '../vmfile/sizes.js';

/** Gives the value, or says what was expected instead. */
export type Reader<T> = (value: unknown) => { readonly value: T } | { readonly expected: string };

const text: Reader<string> = (value) =>
  typeof value === 'string' && value !== '' ? { value } : { expected: 'a string that is not empty' };

/** A whole number of 1 or more. */
export const readPositive: Reader<number> = (value) => {
  const number = typeof value === 'string' && /^\d+$/.test(value) ? Number(value) : value;
  const fits = typeof number === 'number' && Number.isSafeInteger(number) && number >= 1;
  return fits ? { value: number } : { expected: 'a whole number of 1 or more' };
};

/** As in the VMFile; timers cannot wait longer than 24 days (Node.js, `setTimeout`). */
const LONGEST_SECONDS = 7 * 24 * 3600;

/** Seconds: a number, or a duration such as `90s`; a week at most. */
export const readSeconds: Reader<number> = (value) => {
  const number = typeof value === 'string' && /^\d+$/.test(value) ? Number(value) : value;
  const parsed = typeof number === 'string' ? parseDuration(number) : null;
  const duration = parsed?.ok === true ? parsed.value : number;
  const fits = typeof duration === 'number' && duration >= 0 && duration <= LONGEST_SECONDS;
  return fits ? { value: duration } : { expected: 'seconds, or a duration such as "90s", of a week at most' };
};

/** The same for something that needs time: as in the VMFile, none is no time at all. */
export const readWait: Reader<number> = (value) => {
  const read = readSeconds(value);
  if ('value' in read && read.value > 0) return read;
  return { expected: 'seconds above 0, or a duration such as "90s", of a week at most' };
};

/** Seconds: a duration such as `30d`, however long. */
export const readAge: Reader<number> = (value) => {
  // Nothing needs no unit.
  if (value === '0') return { value: 0 };
  const parsed = typeof value === 'string' ? parseDuration(value) : null;
  return parsed?.ok === true ? { value: parsed.value } : { expected: 'a duration such as "30d" or "12h"' };
};

/** Bytes: a whole number of them, or a size such as `20GiB`. */
export const readBytes: Reader<number> = (value) => {
  const number = typeof value === 'string' && /^\d+$/.test(value) ? Number(value) : value;
  const parsed = typeof number === 'string' ? parseSize(number) : null;
  const bytes = parsed?.ok === true ? parsed.value : number;
  const fits = typeof bytes === 'number' && Number.isSafeInteger(bytes) && bytes >= 0;
  return fits ? { value: bytes } : { expected: 'a size such as "20GiB"' };
};

const words: Reader<readonly string[]> = (value) => {
  if (typeof value === 'string') return { value: value.split(/\s+/).filter((word) => word !== '') };
  const fits = Array.isArray(value) && value.every((word) => typeof word === 'string');
  return fits ? { value } : { expected: 'a list of strings' };
};

/** As JavaScript, JSON and the environment write it. */
const flag: Reader<boolean> = (value) => {
  if (value === true || value === 'true' || value === '1') return { value: true };
  if (value === false || value === 'false' || value === '0') return { value: false };
  return { expected: 'true or false (1 or 0)' };
};

/** As in the VMFile. */
const warmth: Reader<WarmLevel> = (value) => {
  if (value === 'disk') return { value };
  const read = flag(value);
  if ('value' in read) return { value: read.value ? 'memory' : 'off' };
  return { expected: 'true, false (1 or 0) or "disk"' };
};

function oneOf<const T extends string>(...choices: readonly T[]): Reader<T> {
  return (value) => {
    const choice = choices.find((known) => known === value);
    return choice === undefined ? { expected: `one of ${choices.join(', ')}` } : { value: choice };
  };
}

/** A setting that nobody has to give. What was expected is the whole message of its issue. */
function setting<T>(read: Reader<T>) {
  const transform = v.rawTransform<unknown, T>(({ dataset, addIssue, NEVER }) => {
    const result = read(dataset.value);
    if ('value' in result) return result.value;
    addIssue({ message: result.expected });
    return NEVER;
  });
  return v.exactOptional(v.pipe(v.unknown(), transform));
}

/** All settings, by their dotted names. */
export const settingsSchema = v.object({
  file: setting(text),
  'concurrency.downloads': setting(readPositive),
  'concurrency.boots': setting(readPositive),
  accelerator: setting(oneOf('auto', 'kvm', 'tcg', 'hvf')),
  'timeouts.ssh': setting(readWait),
  'timeouts.stop': setting(readSeconds),
  'network.leases': setting(words),
  'images.budget': setting(readBytes),
  'images.pull': setting(oneOf(...PULL_POLICIES)),
  warm: setting(warmth),
  'snapshots.budget': setting(readBytes),
  'qemu.binary': setting(text),
  'qemu.extraArgs': setting(words),
  'propolis.binary': setting(text),
  'propolis.bootrom': setting(text),
  'propolis.dataset': setting(text),
  'propolis.link': setting(text),
  backend: setting(oneOf('qemu', 'noop')),
  bootFirst: setting(flag),
  keep: setting(flag),
  reuse: setting(flag),
});

/** What was set, and is valid; what nobody set is absent. Times are in seconds, sizes in bytes. */
export type Settings = v.InferOutput<typeof settingsSchema>;

export const SETTING_KEYS = v.keyof(settingsSchema).options;

export type SettingKey = (typeof SETTING_KEYS)[number];

/** `qemu.extraArgs` is `VMCTL_QEMU_EXTRA_ARGS` in the environment. */
export function variableOf(key: SettingKey): string {
  const spelled = key.replaceAll(/[A-Z]/g, (letter) => `_${letter}`).replaceAll('.', '_');
  return `VMCTL_${spelled.toUpperCase()}`;
}
