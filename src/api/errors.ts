/** The failures that carry more than words. */
import { VmctlError, type VmctlErrorOptions } from '../errors.js';

/** A VM that did not come up. */
export interface UpFailure {
  readonly vm: string;
  /** The step that failed. */
  readonly step: string;
  readonly error: VmctlError;
}

/** `UP_FAILED`: at least one VM did not come up. */
export class UpError extends VmctlError {
  /** One for each VM that failed. */
  readonly failures: readonly UpFailure[];

  /** @internal */
  constructor(failures: readonly UpFailure[], what: 'come up' | 'stop' = 'come up') {
    const words = failures.map(({ vm, error }) => `${vm}: ${error.message}`);
    const [first] = failures;
    const only = failures.length === 1 ? first : undefined;
    const details = failures.flatMap(({ vm, error }) => (error.details === null ? [] : [`${vm}:\n${error.details}`]));
    super(
      'UP_FAILED',
      `${failures.length === 1 ? 'a VM' : `${failures.length} VMs`} did not ${what}: ${words.join('; ')}`,
      {
        ...hintOf(only),
        ...(details.length === 0 ? {} : { details: details.join('\n') }),
        ...(first === undefined ? {} : { cause: first.error }),
        fields: { failed: failures.length },
      },
    );
    this.failures = failures;
  }
}

function hintOf(failure: UpFailure | undefined): { readonly hint?: string } {
  const hint = failure?.error.hint ?? null;
  return hint === null ? {} : { hint };
}

/** What a command has printed, and how it ended. */
export interface ExecResult {
  /** Null when a signal ended the command, or it did not end. */
  readonly exitCode: number | null;
  /** Such as `SIGTERM`; null when the command ended by itself. */
  readonly signal: string | null;
  /** Everything that it printed, as UTF-8. */
  readonly stdout: string;
  readonly stderr: string;
  readonly durationMs: number;
}

const DETAIL_LINES = 20;

/** A command that did not do what it was for: `EXEC_FAILED`, or `TIMEOUT` and `ABORTED` after it was ended. */
export class ExecError extends VmctlError implements ExecResult {
  readonly exitCode: number | null;
  readonly signal: string | null;
  readonly stdout: string;
  readonly stderr: string;
  readonly durationMs: number;

  /** @internal */
  constructor(code: 'EXEC_FAILED' | 'TIMEOUT' | 'ABORTED', message: string, facts: ExecFacts) {
    const { result, vm, cause } = facts;
    const output = [result.stdout, result.stderr].map((text) => text.trimEnd()).filter((text) => text !== '');
    const details = output.join('\n').split('\n').slice(-DETAIL_LINES).join('\n');
    const options: VmctlErrorOptions = {
      fields: { vm, exitCode: result.exitCode, signal: result.signal },
      ...(details === '' ? {} : { details }),
      ...(cause === undefined ? {} : { cause }),
    };
    super(code, message, options);
    this.exitCode = result.exitCode;
    this.signal = result.signal;
    this.stdout = result.stdout;
    this.stderr = result.stderr;
    this.durationMs = result.durationMs;
  }
}

interface ExecFacts {
  readonly result: ExecResult;
  readonly vm: string;
  readonly cause?: unknown;
}
