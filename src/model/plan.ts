/** The plan of `up` as data. */
import type { VmctlErrorJson } from '../errors.js';
import type { WarmOutlook } from './warm.js';

export type UpAction =
  /** It does not exist: all five steps. */
  | 'create'
  /** It exists, and is to be made anew: its files go when everything for the new ones is there. */
  | 'recreate'
  /** It exists and is stopped: started, and provisioned again. */
  | 'start'
  /** It is suspended: its vCPUs go on, and what was left undone is done. */
  | 'resume'
  /** It runs, but its provisioning was not finished. */
  | 'provision'
  /** It runs and was provisioned. */
  | 'none';

/** A node of the VMFile whose value is no longer the one that the VM was made with. */
export interface Change {
  readonly node: string;
  /** As a person reads it. */
  readonly made: string;
  readonly declared: string;
}

export interface PlannedVm {
  readonly name: string;
  readonly action: UpAction;
  /** In a few words. */
  readonly reason: string;
  /** VMs that this one waits for before it starts; where all boot first, before it is provisioned. */
  readonly waitsFor: readonly string[];
  /** What is waited for after provisioning, as it stands in the VMFile; nothing where that is not looked at. */
  readonly ready: readonly string[];
  /** Where the VM is not as declared; only making it anew changes that. */
  readonly changes: readonly Change[];
  /** How a VM that is to be made begins; null for any other. */
  readonly warm: WarmOutlook | null;
  /** Every provision step, and whether it would be run. */
  readonly steps: readonly {
    readonly number: number;
    readonly title: string;
    readonly runs: boolean;
    readonly reason: string;
  }[];
}

/** A VM that `up` would fail on before it did anything. */
export interface UnplannedVm {
  readonly name: string;
  readonly error: VmctlErrorJson;
}
