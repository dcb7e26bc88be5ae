/** What to do about a login that was refused, for a VM that stands in no VMFile. */
import { VmctlError } from '../errors.js';
import type { VmSpec } from '../model/spec.js';

/** The same error; for a VM that `vmctl create` has made, with a hint that speaks of its options. */
export function fittingHint(error: VmctlError, spec: Pick<VmSpec, 'name' | 'project' | 'cloudInit'>): VmctlError {
  if (error.code !== 'SSH_AUTHENTICATION' || spec.project !== null) return error;
  const { name, cloudInit } = spec;
  const hint =
    cloudInit === null
      ? `It was made without --ssh-key and --cloud-init. If the image has a user of its own: vmctl ssh ${name} --user USER --key PATH; else make it anew with one of the two, or use: vmctl console ${name}`
      : `Check the user (--user), and that the image reads its seed (cloud-init): vmctl log ${name}`;
  const { code, message, cause, details, fields } = error;
  return new VmctlError(code, message, { hint, cause, fields, ...(details === null ? {} : { details }) });
}
