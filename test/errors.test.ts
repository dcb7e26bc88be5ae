import { describe, expect, test } from 'vitest';
import { EXIT, exitCodeOf, exitCodeOfAll } from '../src/cli/exit-code.js';
import { ERROR_CODES, type ErrorCode, VmctlError, toVmctlError, unreachable } from '../src/errors.js';

const codes = Object.keys(ERROR_CODES).filter((code): code is ErrorCode => Object.hasOwn(ERROR_CODES, code));
const error = (code: ErrorCode) => new VmctlError(code, 'no');

describe('an error code', () => {
  test.each(Object.entries(ERROR_CODES))('%s has one sentence: %s', (code, sentence) => {
    expect(code).toMatch(/^[A-Z][A-Z_]+$/);
    expect(sentence).toMatch(/^[A-Z].{10,}\.$/);
    expect(sentence).not.toContain('\n');
  });

  test('means something else than every other one', () => {
    expect(new Set(Object.values(ERROR_CODES)).size).toBe(codes.length);
  });
});

describe('an error', () => {
  test('keeps what it was told, and has null for the rest', () => {
    const cause = new Error('why');
    const full = new VmctlError('VM_STATE', 'no', { hint: 'do this', details: 'a\nb', fields: { vm: 'web' }, cause });
    expect(full).toMatchObject({ name: 'VmctlError', message: 'no', hint: 'do this', details: 'a\nb', cause });
    expect(JSON.parse(JSON.stringify(full))).toEqual({
      code: 'VM_STATE',
      message: 'no',
      hint: 'do this',
      details: 'a\nb',
      fields: { vm: 'web' },
    });
    expect(error('USAGE').toJSON()).toEqual({ code: 'USAGE', message: 'no', hint: null, details: null, fields: {} });
    expect(Object.hasOwn(error('USAGE'), 'cause')).toBe(false);
  });

  test('of ours stays as it is', () => {
    const own = error('QMP');
    expect(toVmctlError(own)).toBe(own);
  });

  test('that says that something was cancelled becomes ABORTED', () => {
    const cause = new DOMException('This operation was aborted', 'AbortError');
    expect(toVmctlError(cause)).toMatchObject({ code: 'ABORTED', cause });
  });

  test('of the system, which refuses to write a file, is one of the world, with the next step', () => {
    const cause = Object.assign(new Error('ENOSPC: no space left on device, write'), { code: 'ENOSPC' });
    expect(toVmctlError(cause)).toMatchObject({
      code: 'STATE_DIRECTORY',
      message: 'ENOSPC: no space left on device, write',
      hint: 'Free some space on that file system.',
      cause,
    });
  });

  test('of any other kind is a bug in vmctl, with its words and where to report it', () => {
    const cause = new TypeError('x is not a function');
    expect(toVmctlError(cause)).toMatchObject({
      code: 'INTERNAL',
      message: 'Internal error: x is not a function',
      hint: expect.stringContaining('report it'),
      cause,
    });
    expect(toVmctlError('words').message).toBe('Internal error: words');
  });
});

test('a value that the types exclude is a bug in vmctl that names it', () => {
  const values: [never] = JSON.parse('[{"kind":"new"}]');
  expect(() => unreachable(...values)).toThrow('Internal error: unexpected value {"kind":"new"}');
});

describe('the exit code', () => {
  /** What is not here is 1: the operation failed. */
  const OTHERS: Partial<Record<ErrorCode, number>> = {
    USAGE: 2,
    CONFIG_INVALID: 3,
    VMFILE_INVALID: 3,
    VMFILE_NOT_FOUND: 3,
    HOST_UNSUPPORTED: 4,
    READY_TIMEOUT: 124,
    LOCK_TIMEOUT: 124,
    TIMEOUT: 124,
    ABORTED: 130,
  };

  test.each(codes.map((code) => [code, OTHERS[code] ?? 1] as const))('of %s is %d', (code, exitCode) => {
    expect(exitCodeOf(error(code))).toBe(exitCode);
  });

  test('of no failure is 0', () => {
    expect(exitCodeOfAll([])).toBe(EXIT.done);
  });

  test('of several failures is theirs where it is the same, and 1 where they differ', () => {
    expect(exitCodeOfAll([error('READY_TIMEOUT'), error('TIMEOUT')])).toBe(124);
    expect(exitCodeOfAll([error('READY_TIMEOUT'), error('HOST_UNSUPPORTED')])).toBe(1);
    expect(exitCodeOfAll([error('QMP'), error('QEMU_START')])).toBe(1);
  });

  test('is that of the VM that failed, not of those that waited for it', () => {
    expect(exitCodeOfAll([error('DEPENDENCY_FAILED'), error('READY_TIMEOUT')])).toBe(124);
    expect(exitCodeOfAll([error('DEPENDENCY_FAILED')])).toBe(1);
  });
});
