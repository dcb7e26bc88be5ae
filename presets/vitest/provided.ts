/** What is said of the VMs in Vitest, and what its main process hands to its workers. */
import type { AttachedFleet, FleetConnection } from '../../src/index.js';
import type { TestVmsOptions } from '../testing/options.js';

export interface VmctlVitestOptions extends TestVmsOptions {
  /**
   * `run`, the default: one set of VMs, which every test file and worker shares. `file`: each test file that imports
   * `vmctl/vitest/test` has a set of its own, which is brought up before its first test and ended after its last.
   * `test`: the same, and before each further test that VMs were used before they are reset to how they were
   * provisioned; tests of one file may not be concurrent then.
   */
  readonly isolate?: 'run' | 'file' | 'test' | undefined;
}

export interface VmsFixtures {
  /** The VMs by their names. */
  readonly vms: AttachedFleet;
}

declare module 'vitest' {
  interface ProvidedContext {
    /** How the VMs that all test files share are reached: what `attach` takes. */
    vmctl: FleetConnection;
    /** What the plugin was given, with absolute paths. */
    'vmctl:options': VmctlVitestOptions;
  }
}
