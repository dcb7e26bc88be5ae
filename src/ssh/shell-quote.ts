/** Text that a POSIX shell reads back as it was. Nothing else builds shell source from values. */
import { VmctlError } from '../errors.js';

/** POSIX "Name" (XBD 3.216): what `export` accepts. */
const VARIABLE_NAME = /^[A-Za-z_][A-Za-z0-9_]*$/;

/** One shell word whose value is exactly this text. Throws `USAGE` for a NUL, which no shell word can hold. */
export function shellQuote(value: string): string {
  if (value.includes('\0')) throw new VmctlError('USAGE', 'a shell word cannot hold a NUL character');
  return `'${value.replaceAll("'", `'\\''`)}'`;
}

/**
 * Shell source that sets these variables, to stand before a command; empty for none. It works whatever sshd's
 * `AcceptEnv` says, in every login shell that has `export NAME='value'`: all POSIX shells and fish, but not csh.
 * Throws `USAGE` for a name that no shell takes.
 */
export function exportPrefix(environment: Readonly<Record<string, string>>): string {
  return Object.entries(environment)
    .map(([name, value]) => {
      if (VARIABLE_NAME.test(name)) return `export ${name}=${shellQuote(value)}; `;
      throw new VmctlError('USAGE', `${JSON.stringify(name)} cannot be the name of an environment variable`, {
        hint: 'Use letters, digits and underscores, with no digit first.',
        fields: { variable: name },
      });
    })
    .join('');
}
