/** Commands of illumos that need more rights than a user has: by `pfexec`, where vmctl is not root itself. */
import { VmctlError } from '../../errors.js';
import type { CommandResult, CommandRunner } from '../../util/exec.js';

/** What the tools of illumos say to somebody who may not. */
const FORBIDDEN = /permission denied|not permitted|insufficient privileges|not owner|must be root/i;

export class HostRunner {
  readonly #run: CommandRunner;
  readonly isRoot: boolean;

  constructor(run: CommandRunner, isRoot: boolean) {
    this.#run = run;
    this.isRoot = isRoot;
  }

  /** Only looks; any user may. */
  look(words: readonly [string, ...string[]], signal?: AbortSignal): Promise<CommandResult> {
    const [program, ...rest] = words;
    return this.#run(program, rest, signal === undefined ? {} : { signal });
  }

  /** Throws `HOST_UNSUPPORTED` where the user lacks the rights, `COMMAND_FAILED` with the command's own words else. */
  async change(words: readonly [string, ...string[]], signal?: AbortSignal): Promise<CommandResult> {
    try {
      return await this.look(this.privileged(words), signal);
    } catch (error) {
      if (!(error instanceof VmctlError) || error.code !== 'COMMAND_FAILED' || !FORBIDDEN.test(wordsOf(error)))
        throw error;
      throw new VmctlError('HOST_UNSUPPORTED', `this user may not do what vmctl needs: ${error.message}`, {
        hint: "Let pfexec do it: usermod -P 'Primary Administrator' USER, as root; or run vmctl as root.",
        cause: error,
        fields: error.fields,
      });
    }
  }

  /** The command line that does it with the rights that it takes. */
  privileged(words: readonly [string, ...string[]]): readonly [string, ...string[]] {
    return this.isRoot ? words : ['pfexec', ...words];
  }
}

/** Everything that a command said. */
export function wordsOf(error: VmctlError): string {
  return `${error.message}\n${error.details ?? ''}`;
}

/** The answer of a command that failed with these words; throws every other failure on. */
export function unless<T>(pattern: RegExp, value: T): (error: unknown) => T {
  return (error) => {
    if (error instanceof VmctlError && error.code === 'COMMAND_FAILED' && pattern.test(wordsOf(error))) return value;
    throw error;
  };
}
