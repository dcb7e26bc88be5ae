/** What a project says of the VMs of its tests; the same for every test runner. */
import type { ProjectOptions, UpOptions } from '../../src/index.js';

export interface TestVmsOptions extends Pick<ProjectOptions, 'file' | 'cwd' | 'vms' | 'backend' | 'reuse'> {
  /** The VMs stay when the run ends, however it ends. Default by the setting `keep` (`VMCTL_KEEP=1`), else false. */
  readonly keep?: boolean | undefined;
  /**
   * Whether VMs start from what was frozen after their provisioning, for those whose VMFile says nothing about it.
   * Default true; `'disk'` for the disk alone, false for none.
   */
  readonly warm?: UpOptions['warm'];
  /** As for `up`. */
  readonly timeout?: UpOptions['timeout'];
  readonly concurrency?: UpOptions['concurrency'];
  readonly bootFirst?: UpOptions['bootFirst'];
  /**
   * Where a failing test leaves the logs and the screen of the VMs; a folder below `cwd`. Default `vmctl-artifacts`;
   * false: nowhere.
   */
  readonly artifacts?: string | false | undefined;
}

export const ARTIFACTS_FOLDER = 'vmctl-artifacts';
