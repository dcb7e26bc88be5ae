/** What is known of this host, and of what is to run on it: what its checks are made of. */
import type { BackendFacts, ProgramFacts } from '../src/hypervisor/hypervisor.js';
import type { Trouble } from './leftovers.js';
import type { System } from './packages.js';

/** Everything that the checks are made of. */
export interface HostFacts {
  readonly node: string;
  readonly platform: NodeJS.Platform;
  readonly architecture: string;
  readonly system: System;
  /** The mistake in the configuration; null where there is none. */
  readonly settingsProblem: { readonly message: string; readonly hint: string | null } | null;
  /** The setting `qemu.binary`. */
  readonly qemuBinary: string | null;
  readonly backend: { readonly kind: string; readonly facts: BackendFacts } | { readonly problem: string };
  readonly kvm: KvmDevice;
  readonly qemuImg: ProgramFacts;
  readonly ssh: ProgramFacts;
  /** Programs for compressed images that are not there. */
  readonly missingDecompressors: readonly ('zstd' | 'xz' | 'bzip2')[];
  readonly state: StateFacts;
  /** Bytes that programs can still get; null where this host does not tell. */
  readonly availableMemory: number | null;
  readonly project: ProjectFacts;
  readonly leftovers:
    | {
        readonly garbage: number;
        readonly garbageBytes: number;
        readonly troubles: readonly Trouble[];
        readonly processesKnown: boolean;
      }
    | { readonly problem: string };
}

/** Who may use `/dev/kvm`, and why it may be missing. */
export interface KvmDevice {
  /** The group that may read and write the device; null where there is none but root's. */
  readonly group: string | null;
  /** The user is in that group, but this session is not. */
  readonly joined: boolean;
  /** What the processor calls its virtualisation; null where it has none, or hides it. */
  readonly processor: 'vmx' | 'svm' | null;
  readonly inContainer: boolean;
}

export interface StateFacts {
  readonly root: string;
  /** Why nothing can be written there; null where it can. */
  readonly problem: string | null;
  /** The permission bits; null where it does not exist yet. */
  readonly mode: number | null;
  /** Null where the file system does not tell. */
  readonly freeBytes: number | null;
  /** What frozen VMs take. */
  readonly frozenBytes: number;
}

export interface NetworkProblem {
  readonly message: string;
  readonly hint: string | null;
}

export type ProjectFacts =
  | { readonly kind: 'none'; readonly folder: string }
  | { readonly kind: 'unreadable'; readonly problem: string }
  | { readonly kind: 'invalid'; readonly path: string; readonly mistakes: number }
  | {
      readonly kind: 'valid';
      readonly path: string;
      readonly vms: number;
      /** The declared disks of VMs that do not exist yet, at their full size. */
      readonly newDiskBytes: number;
      /** VMs that do not exist yet and take the size of their image. */
      readonly newDisksOfImageSize: number;
      readonly imagesToDownload: number;
      /** The bridges that VMs are to be connected to, each with what is wrong with it; null for nothing. */
      readonly bridges: readonly { readonly name: string; readonly problem: NetworkProblem | null }[];
      /** VMs with `firmware "uefi"`. */
      readonly uefiVms: number;
      /** Of the VMs that do not run yet. */
      readonly memoryMib: number;
    };
