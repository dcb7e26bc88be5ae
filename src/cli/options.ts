/** How option values of the command line are read. A wrong one is a usage error that says what was expected. */
import { extname } from 'node:path';
import { InvalidArgumentError } from 'commander';
import { PULL_POLICIES, type PullPolicy } from '../model/pull-policy.js';
import { vmName } from '../vmfile/names.js';
import { MIB, parseSize } from '../vmfile/sizes.js';
import { type Reader, readAge, readBytes, readPositive, readSeconds, readWait } from '../settings/keys.js';

/** The option of every command that works on a VMFile. */
export const FILE_OPTION = ['-f, --file <path>', 'the VMFile (default: VMFile.kdl in this folder)'] as const;

/** The option of every command that works on some VMs of a VMFile, beside its arguments. */
export const NAME_OPTION = ['--name <name>', 'the same as the argument; may be repeated', collect, []] as const;

/** The option of every command that brings up the VMs of a VMFile. */
export const BOOT_FIRST_OPTION = [
  '--boot-first',
  'boot all VMs before any is provisioned; depends-on then orders the provisioning',
] as const;

/** The option of every command that gets images. */
export const PULL_OPTION = [
  '--pull <when>',
  'ask for images: always (also for a newer one), missing (only what is not in the cache), never (default: missing)',
  pullOption,
] as const;

/** The option of every command that makes VMs which may start from frozen ones. */
export const COLD_OPTION = ['--cold', 'use nothing that was frozen, and freeze nothing', false] as const;

function pullOption(value: string): PullPolicy {
  const policy = PULL_POLICIES.find((known) => known === value);
  if (policy !== undefined) return policy;
  throw new InvalidArgumentError(`It must be one of ${PULL_POLICIES.join(', ')}.`);
}

/** The option of what brings VMs up. */
export const TIMELINE_OPTION = [
  '--timeline <file>',
  'draw what happened, and when, into this .svg or .html file',
  timelineOption,
] as const;

function timelineOption(value: string): string {
  if (['.svg', '.html'].includes(extname(value))) return value;
  throw new InvalidArgumentError('Its name must end in .svg or .html.');
}

/** Gathers a repeated option. */
export function collect(value: string, previous: readonly string[]): readonly string[] {
  return [...previous, value];
}

export const positiveOption = optionBy(readPositive);

/** Seconds. */
export const durationOption = optionBy(readSeconds);

/** Seconds, for something that needs more than none. */
export const waitOption = optionBy(readWait);

/** Seconds of an age. */
export const ageOption = optionBy(readAge);

/** Bytes. */
export const bytesOption = optionBy(readBytes);

/** An option is read as the setting of the same kind. */
function optionBy(read: Reader<number>): (value: string) => number {
  return (value) => {
    const found = read(value);
    if ('value' in found) return found.value;
    throw new InvalidArgumentError(`It must be ${found.expected}.`);
  };
}

/** The name of a VM that is to be made. */
export function nameOption(value: string): string {
  const problem = vmName(value);
  if (problem === null) return value;
  throw new InvalidArgumentError(`It must be 1 to 63 of a-z A-Z 0-9 . _ -, a letter or digit first, but ${problem}.`);
}

/** MiB: a number of them, or a size. */
export function memoryOption(value: string): number {
  return sizeOption(value, { unit: MIB, example: '2048 (MiB) or 2GiB' }) / MIB;
}

/** Bytes: a number of GiB, or a size. */
export function diskOption(value: string): number {
  return sizeOption(value, { unit: 1024 * MIB, example: '20 (GiB) or 512MiB' });
}

function sizeOption(value: string, { unit, example }: { readonly unit: number; readonly example: string }): number {
  const size = /^\d+$/.test(value) ? ({ ok: true, value: Number(value) * unit } as const) : parseSize(value);
  if (!size.ok) throw new InvalidArgumentError(`It must be a size such as ${example}, but ${size.problem}.`);
  if (size.value >= MIB && size.value % MIB === 0 && Number.isSafeInteger(size.value)) return size.value;
  throw new InvalidArgumentError(`It must be a whole number of MiB, 1 or more, such as ${example}.`);
}
