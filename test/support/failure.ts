import { VmctlError } from '../../src/errors.js';

/** The error of ours that a promise rejects with; fails where it does not, and throws on whatever else it is. */
export async function failure(promise: Promise<unknown>): Promise<VmctlError> {
  const error: unknown = await promise.then(
    () => new Error('it did not fail'),
    (thrown: unknown) => thrown,
  );
  if (error instanceof VmctlError) return error;
  throw error;
}
