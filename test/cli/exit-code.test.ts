import { expect, test } from 'vitest';
import { exitCodeOf, exitCodeOfAll } from '../../src/cli/exit-code.js';
import { type ErrorCode, VmctlError } from '../../src/errors.js';

const errors = (...codes: readonly ErrorCode[]) => codes.map((code) => new VmctlError(code, code));

test('a guest that is too slow to answer and a step that is too slow have the exit code of timeout(1)', () => {
  expect(errors('READY_TIMEOUT', 'TIMEOUT').map(exitCodeOf)).toEqual([124, 124]);
});

test('VMs that failed for one reason have its exit code, and 1 where they failed differently', () => {
  expect(exitCodeOfAll(errors('READY_TIMEOUT', 'TIMEOUT'))).toBe(124);
  expect(exitCodeOfAll(errors('READY_TIMEOUT', 'PROVISION_FAILED'))).toBe(1);
  expect(exitCodeOfAll(errors('TIMEOUT', 'HOST_UNSUPPORTED'))).toBe(1);
});

test('a VM that only waited for one that failed does not change the exit code', () => {
  expect(exitCodeOfAll(errors('TIMEOUT', 'DEPENDENCY_FAILED'))).toBe(124);
  expect(exitCodeOfAll(errors('DEPENDENCY_FAILED'))).toBe(1);
  expect(exitCodeOfAll([])).toBe(0);
});
