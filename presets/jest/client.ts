/** What test files import as `vmctl/jest`. */
export { ExecError, VmctlError, attach } from '../../src/index.js';
export { vms } from './fleet.js';
