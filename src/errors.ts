/**
 * Every failure that vmctl expects. A mistake in a VMFile is a list of diagnostics (`VMFILE_INVALID`),
 * a world that refuses is one of the other codes, and anything that is not a `VmctlError` is our bug.
 */
import { types } from 'node:util';

/** The codes of `VmctlError`, each with the one thing it means. */
export const ERROR_CODES = {
  USAGE: 'The command line does not fit the command.',
  CONFIG_INVALID: 'A configuration file or a VMCTL_ variable has an unknown key or a wrong value.',
  VMFILE_NOT_FOUND: 'There is no VMFile where one was looked for.',
  VMFILE_INVALID: 'The VMFile has mistakes; `diagnostics` lists them all.',
  VM_NOT_FOUND: 'No VM of that name exists.',
  VM_EXISTS: 'A VM of that name exists already.',
  VM_FOREIGN: 'A VM of that name belongs to another VMFile.',
  VM_STATE: 'The operation is not legal in the state that the VM is in.',
  SNAPSHOT_NOT_FOUND: 'The VM has no snapshot of that name.',
  VM_DAMAGED: 'Files of the VM are missing or unreadable.',
  IMAGE_NOT_FOUND: 'The image file or URL does not exist.',
  IMAGE_INVALID: 'The file is not a disk image that vmctl accepts.',
  IMAGE_DOWNLOAD: 'The image could not be downloaded completely.',
  IMAGE_UPLOAD: 'The image could not be uploaded completely.',
  IMAGE_CHECKSUM:
    'The bytes downloaded are not those that the checksum promises, or its list promises nothing for them.',
  FILE_NOT_FOUND: 'A file that the VM needs does not exist or cannot be read.',
  HOST_UNSUPPORTED: 'This host cannot do it: a program, firmware or permission is missing.',
  QEMU_START: 'QEMU did not start; the message carries its own words.',
  QMP: 'QEMU refused a QMP command or closed the QMP socket.',
  PROPOLIS: 'The propolis-server of a VM did not start, refused a request or cannot be reached.',
  COMMAND_FAILED: 'A program that vmctl ran on the host failed.',
  READY_TIMEOUT: 'The guest did not answer in time.',
  SSH_HOST_KEY: 'The guest showed another host key than the pinned one.',
  SSH_AUTHENTICATION: 'The guest refused every key that was offered.',
  SSH_TRANSPORT: 'The SSH connection failed or broke off.',
  EXEC_FAILED: 'A command in a guest exited with another code than 0.',
  TRANSFER_FAILED: 'A file or folder could not be copied into the guest or out of it.',
  PROVISION_FAILED: 'A provision step failed in the guest.',
  DEPENDENCY_FAILED: 'A VM that this one depends on did not come up.',
  UP_FAILED: 'At least one VM did not come up; `failures` says why for each.',
  UNSUPPORTED: 'The backend or this version of vmctl cannot do it.',
  LOCK_TIMEOUT: 'Another vmctl process kept a lock for too long.',
  TIMEOUT: 'A deadline passed.',
  ABORTED: 'The operation was cancelled.',
  OUTPUT: 'What a command prints could not be written.',
  STATE_DIRECTORY: 'The state directory cannot be read or written.',
  INTERNAL: 'A bug in vmctl.',
} as const;

export type ErrorCode = keyof typeof ERROR_CODES;

export interface VmctlErrorOptions {
  /** The next step for the user, one sentence. */
  readonly hint?: string;
  readonly cause?: unknown;
  /** Facts for programs: the VM, the path, the value… Plain JSON only. */
  readonly fields?: Readonly<Record<string, string | number | boolean | null>>;
  /** Longer text to show below the message: the last console lines, the output of a command, diagnostics. */
  readonly details?: string;
}

/** For whom an error is put into words. */
export interface RenderOptions {
  readonly color: boolean;
  /** Columns of the terminal, 100 by default; source lines are cut to it, messages are not. */
  readonly width?: number;
  /** Paths are shown relative to this folder where that is shorter. */
  readonly cwd?: string;
}

/** A failure with a stable `code`, a message that names the thing and the value, and a `hint` with the next step. */
export class VmctlError extends Error {
  override readonly name = 'VmctlError';
  readonly code: ErrorCode;
  readonly hint: string | null;
  readonly details: string | null;
  readonly fields: Readonly<Record<string, string | number | boolean | null>>;

  constructor(code: ErrorCode, message: string, options: VmctlErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.hint = options.hint ?? null;
    this.details = options.details ?? null;
    this.fields = options.fields ?? {};
  }

  /** The text to show instead of message, details and hint; null, and so those, unless a kind of error overrides it. */
  render(_options: RenderOptions): string | null {
    return null;
  }

  toJSON(): VmctlErrorJson {
    return { code: this.code, message: this.message, hint: this.hint, details: this.details, fields: this.fields };
  }
}

/** What `--json` output and recorded failures hold of an error. */
export interface VmctlErrorJson {
  readonly code: ErrorCode;
  readonly message: string;
  readonly hint: string | null;
  readonly details: string | null;
  readonly fields: Readonly<Record<string, string | number | boolean | null>>;
}

/** The next step where the system refuses to read or write a file, by Node's code of that. */
export const REFUSAL_HINTS: Readonly<Record<string, string>> = {
  ENOSPC: 'Free some space on that file system.',
  EACCES: 'Check who owns it and its permissions.',
  EPERM: 'Check who owns it and its permissions.',
  EROFS: 'That file system is read-only; set XDG_DATA_HOME to a folder that can be written.',
  EDQUOT: 'Your quota on that file system is used up.',
};

/** The error itself if it is one of ours, a cancellation or a refusal of the system, else our bug, wrapped with its cause. */
export function toVmctlError(error: unknown): VmctlError {
  if (error instanceof VmctlError) return error;
  if (error instanceof Error && error.name === 'AbortError') {
    return new VmctlError('ABORTED', 'interrupted', { cause: error });
  }
  if (types.isNativeError(error) && 'code' in error) {
    const hint = REFUSAL_HINTS[String(error.code)];
    if (hint !== undefined) return new VmctlError('STATE_DIRECTORY', error.message, { cause: error, hint });
  }
  const message = error instanceof Error ? error.message : String(error);
  return new VmctlError('INTERNAL', `Internal error: ${message}`, {
    cause: error,
    hint: 'This is a bug in vmctl. Please report it with the stack trace that VMCTL_DEBUG=1 shows.',
  });
}

/** Makes a switch over a union complete at compile time, and says what arrived when the types were wrong. */
export function unreachable(value: never): never {
  throw new VmctlError('INTERNAL', `Internal error: unexpected value ${JSON.stringify(value)}`);
}
