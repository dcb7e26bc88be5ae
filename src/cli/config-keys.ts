/** The settings that there are: their names, what a value must be, and how a variable spells them. */
import { parseDuration } from '../vmfile/sizes.js';

/** All settings; what nobody set is absent. */
export interface Settings {
  readonly file?: string;
  readonly 'concurrency.downloads'?: number;
  readonly 'concurrency.boots'?: number;
  readonly accelerator?: 'auto' | 'kvm' | 'tcg' | 'hvf';
  /** Seconds. */
  readonly 'timeouts.ssh'?: number;
  /** Seconds. */
  readonly 'timeouts.stop'?: number;
  readonly 'qemu.binary'?: string;
  readonly 'qemu.extraArgs'?: readonly string[];
  readonly backend?: 'qemu' | 'noop';
}

export type SettingKey = keyof Settings;

/** Gives the value, or says what was expected instead. */
type Reader<T> = (value: unknown) => { readonly value: T } | { readonly expected: string };

const text: Reader<string> = (value) =>
  typeof value === 'string' && value !== '' ? { value } : { expected: 'a string that is not empty' };

const positive: Reader<number> = (value) => {
  const number = typeof value === 'string' && /^\d+$/.test(value) ? Number(value) : value;
  const fits = typeof number === 'number' && Number.isSafeInteger(number) && number >= 1;
  return fits ? { value: number } : { expected: 'a whole number of 1 or more' };
};

const seconds: Reader<number> = (value) => {
  const number = typeof value === 'string' && /^\d+$/.test(value) ? Number(value) : value;
  if (typeof number === 'number' && Number.isFinite(number) && number >= 0) return { value: number };
  const parsed = typeof value === 'string' ? parseDuration(value) : null;
  return parsed?.ok === true ? { value: parsed.value } : { expected: 'seconds, or a duration such as "90s"' };
};

const words: Reader<readonly string[]> = (value) => {
  if (typeof value === 'string') return { value: value.split(/\s+/).filter((word) => word !== '') };
  const fits = Array.isArray(value) && value.every((word) => typeof word === 'string');
  return fits ? { value } : { expected: 'a list of strings' };
};

function oneOf<const T extends string>(...choices: readonly T[]): Reader<T> {
  return (value) => {
    const choice = choices.find((known) => known === value);
    return choice === undefined ? { expected: `one of ${choices.join(', ')}` } : { value: choice };
  };
}

/** How each setting's value is read. */
export const SETTING_READERS: { readonly [K in SettingKey]-?: Reader<NonNullable<Settings[K]>> } = {
  file: text,
  'concurrency.downloads': positive,
  'concurrency.boots': positive,
  accelerator: oneOf('auto', 'kvm', 'tcg', 'hvf'),
  'timeouts.ssh': seconds,
  'timeouts.stop': seconds,
  'qemu.binary': text,
  'qemu.extraArgs': words,
  backend: oneOf('qemu', 'noop'),
};

export const SETTING_KEYS = Object.keys(SETTING_READERS) as readonly SettingKey[];

/** `qemu.extraArgs` is `VMCTL_QEMU_EXTRA_ARGS` in the environment. */
export function variableOf(key: SettingKey): string {
  const spelled = key.replaceAll(/[A-Z]/g, (letter) => `_${letter}`).replaceAll('.', '_');
  return `VMCTL_${spelled.toUpperCase()}`;
}
