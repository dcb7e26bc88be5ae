/**
 * `vmctl/jest`, for test files. Jest cannot `require` the ES modules that vmctl is made of; they are loaded outside of
 * its sandbox, by the test environment, which hands over what tests use. Plain JavaScript, because it is the one
 * CommonJS module of the package.
 */
const client = globalThis[Symbol.for('vmctl.jest')];

if (client === undefined) {
  throw new Error(
    "vmctl/jest needs its test environment: use preset: 'vmctl/jest', or withVms() of vmctl/jest/environment for another environment",
  );
}
exports.ExecError = client.ExecError;
exports.VmctlError = client.VmctlError;
exports.attach = client.attach;
exports.vms = client.vms;
