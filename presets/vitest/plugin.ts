/**
 * `vmctl/vitest`, for `vitest.config.ts`. What tests import is `vmctl/vitest/test`: Vitest lets nothing that imports
 * it be imported by its configuration.
 */
import { fileURLToPath } from 'node:url';
import type { VmctlVitestOptions } from './provided.js';

export type { TestVmsOptions } from '../testing/options.js';
export type { VmctlVitestOptions } from './provided.js';

/** A plugin of Vite; what it has in common with those of every version. */
export interface VmctlVitestPlugin {
  readonly name: 'vmctl';
  readonly config: () => {
    test: { globalSetup: string[]; setupFiles: string[]; provide: { 'vmctl:options': VmctlVitestOptions } };
  };
}

/** Brings up VMs for the tests of a project: `plugins: [vmctl({ vms: ['web'] })]`. */
export function vmctl(options: VmctlVitestOptions = {}): VmctlVitestPlugin {
  return {
    name: 'vmctl',
    config: () => ({
      test: {
        globalSetup: [neighbour('./setup.js')],
        setupFiles: isOfFile(options) ? [neighbour('./file-setup.js')] : [],
        provide: { 'vmctl:options': options },
      },
    }),
  };
}

/** Whether test files have VMs of their own. */
function isOfFile({ isolate }: VmctlVitestOptions): boolean {
  return isolate === 'file' || isolate === 'test';
}

/** By its path: the project's folder may not be one from which the package is found by its name. */
function neighbour(name: string): string {
  return fileURLToPath(new URL(name, import.meta.url));
}
