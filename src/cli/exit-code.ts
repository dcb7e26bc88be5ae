/** Exit codes: few, documented, and the same everywhere. */
import type { ErrorCode, VmctlError } from '../errors.js';

export const EXIT = {
  done: 0,
  failed: 1,
  usage: 2,
  invalid: 3,
  hostUnsupported: 4,
  timedOut: 124,
  /** As a shell has it for a command that does not exist. */
  notFound: 127,
  interrupted: 130,
  /** 128 + SIGPIPE: nobody reads the output any more. */
  outputClosed: 141,
  /** As `ssh` has it: there was no connection, or it failed; not the command. */
  transport: 255,
} as const;

const BY_CODE: Partial<Record<ErrorCode, number>> = {
  USAGE: EXIT.usage,
  CONFIG_INVALID: EXIT.invalid,
  VMFILE_INVALID: EXIT.invalid,
  VMFILE_NOT_FOUND: EXIT.invalid,
  HOST_UNSUPPORTED: EXIT.hostUnsupported,
  READY_TIMEOUT: EXIT.timedOut,
  LOCK_TIMEOUT: EXIT.timedOut,
  TIMEOUT: EXIT.timedOut,
  ABORTED: EXIT.interrupted,
};

export function exitCodeOf(error: VmctlError): number {
  return BY_CODE[error.code] ?? EXIT.failed;
}

/**
 * For commands that reach into a guest: what keeps them from getting there has the code of a failed connection, because
 * 1 would pass for the guest's own.
 */
export function exitCodeOfNoConnection(error: VmctlError): number {
  const code = exitCodeOf(error);
  return code === EXIT.failed ? EXIT.transport : code;
}

/** The common code of several failures; 1 where they differ. A VM that was only held up by another one has no say. */
export function exitCodeOfAll(errors: readonly VmctlError[]): number {
  const causes = errors.filter(({ code }) => code !== 'DEPENDENCY_FAILED');
  const codes = new Set((causes.length === 0 ? errors : causes).map(exitCodeOf));
  const [only] = codes;
  if (only === undefined) return EXIT.done;
  return codes.size === 1 ? only : EXIT.failed;
}
