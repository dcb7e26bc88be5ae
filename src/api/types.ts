/// <reference lib="esnext.disposable" preserve="true" />
/** What the API takes for VMs together, and gives of them, as types alone; `vm-types.ts` has those of one VM. */
import type { EventListener } from '../model/event.js';
import type { VmDeclaration } from '../vmfile/declaration.js';
import type { Duration } from './duration.js';
import type { RunningVm, SshDetails } from './vm-types.js';

/** Which VMs are meant, and the world that they are in; common to `up`, `plan` and the tasks. */
export interface ProjectOptions<N extends string = string> {
  /** The VMFile; default the one that the settings name, else `VMFile.kdl`. Relative to `cwd`. */
  readonly file?: string | undefined;
  /** Default the current folder. */
  readonly cwd?: string | undefined;
  /** Names of the VMFile, which bring along what they depend on; or VMs that are declared here. Default: all. */
  readonly vms?: readonly N[] | Readonly<Record<N, VmDeclaration>> | undefined;
  /** `noop` goes through every step without a guest. Default by the settings, else by the platform. */
  readonly backend?: 'qemu' | 'noop' | undefined;
  /**
   * `process`, the default: the VMs are apart from all others, and end with this process, however it ends. `forever`:
   * the VMs are those of `vmctl up`, and stay.
   */
  readonly lifetime?: 'process' | 'forever' | undefined;
  /** The next run of the same program takes over VMs that are still as declared. Default by the setting, else false. */
  readonly reuse?: boolean | undefined;
}

export interface UpOptions<N extends string = string> extends ProjectOptions<N> {
  /** Cancels: what was begun is stopped and removed, and `up` rejects with `ABORTED`. Without effect once it is done. */
  readonly signal?: AbortSignal | undefined;
  /** Told everything that happens, as `vmctl up --json` prints it. */
  readonly onEvent?: EventListener | undefined;
  readonly concurrency?:
    | {
        /** At the same time; default 3. */
        readonly downloads?: number | undefined;
        /** Guests that boot at the same time; default the number of cores, 2 at least. */
        readonly boots?: number | undefined;
      }
    | undefined;
  /** How long to wait for SSH of each VM; default 2 min, 8 min under software emulation, or what is declared. */
  readonly timeout?: Duration | undefined;
  /**
   * Whether VMs start from what was frozen after their provisioning, and are frozen: `true`, or `'disk'` for the disk
   * alone, for those whose declaration says nothing about it; `false` for none at all. Default by the setting `warm`,
   * else as declared.
   */
  readonly warm?: boolean | 'disk' | undefined;
  /** False: the VMs are only started, and not waited for until they are ready. Default true. */
  readonly provision?: boolean | undefined;
  /**
   * True: all VMs boot before any is provisioned, and `depends-on` orders the provisioning. By default, and by the
   * setting, false: a VM boots when those that it depends on are up.
   */
  readonly bootFirst?: boolean | undefined;
  /** The VMs stay when this process ends. Default by the setting `keep` (`VMCTL_KEEP=1`), else false. */
  readonly keep?: boolean | undefined;
}

/** The VMs of one `attach`. */
export interface AttachedFleetMembers extends AsyncDisposable {
  readonly names: readonly string[];
  /** By its name. Throws `VM_NOT_FOUND`, and `USAGE` for the name of a group. */
  get(name: string): RunningVm;
  /** The VMs of a group in their order: `worker-1`, `worker-2` … of a VM "worker" with `count`. Throws `VM_NOT_FOUND`. */
  group(name: string): readonly RunningVm[];
  /** Absolute path; as `VMCTL_STATE` it makes every command of `vmctl` work with these VMs. */
  readonly stateDirectory: string;
  /** Everything that another process needs for `attach`: plain JSON, without secrets but the paths of keys. */
  toJSON(): FleetConnection;
  /** Closes the connections to the VMs, and leaves them alone. */
  [Symbol.asyncDispose](): Promise<void>;
}

/** The VMs of one `up`. */
export interface FleetMembers extends AttachedFleetMembers {
  /** Ends the VMs and removes every file of them, unless they are to stay: then it only lets go. */
  down(): Promise<void>;
  /** The same. */
  [Symbol.asyncDispose](): Promise<void>;
}

/** VMs by their names; one with the name of a method is reached by `get`, those of a group by `group`. */
export type Fleet<N extends string = string> = FleetMembers & {
  readonly [K in Exclude<N, keyof FleetMembers>]: RunningVm;
};

export type AttachedFleet<N extends string = string> = AttachedFleetMembers & {
  readonly [K in Exclude<N, keyof AttachedFleetMembers>]: RunningVm;
};

/** How another process reaches the VMs. */
export interface FleetConnection {
  readonly schemaVersion: 1;
  readonly stateDirectory: string;
  readonly vms: Readonly<Record<string, VmConnection>>;
}

export interface VmConnection {
  /** Null where the VM cannot be logged in to. */
  readonly ssh: (Omit<SshDetails, 'command'> & { readonly hostKeyAlias: string }) | null;
  readonly forwards: readonly { readonly host: number; readonly guest: number }[];
}
