/// <reference lib="esnext.disposable" preserve="true" />
/** What the API takes and gives, as types alone. */
import type { Readable } from 'node:stream';
import type { VmctlErrorJson } from '../errors.js';
import type { EventListener } from '../model/event.js';
import type { Nic } from '../model/vm.js';
import type { LanPlace } from '../model/lan.js';
import type { HttpCondition, VmDeclaration } from '../vmfile/declaration.js';
import type { ExecResult } from './errors.js';

/** Milliseconds, or text with units such as `'10s'`, `'2m'` or `'1h30m'`. */
export type Duration = number | string;

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

export interface ExecOptions {
  /** What the command reads; nothing (end of file at once) by default. */
  readonly stdin?: string | Uint8Array | Readable | undefined;
  readonly env?: Readonly<Record<string, string>> | undefined;
  /** Another user than the one of the VM's `ssh` block, by `sudo -n`: the guest has to allow that. */
  readonly user?: string | undefined;
  /** Default the home directory of the VM's user. */
  readonly cwd?: string | undefined;
  /** After it the command is ended, and `TIMEOUT` thrown; default none. */
  readonly timeout?: Duration | undefined;
  /** Ends the command; `ABORTED` is thrown. */
  readonly signal?: AbortSignal | undefined;
  /** False: an exit code that is not 0 is a result, and no error. Default true. */
  readonly check?: boolean | undefined;
  /** Told the output as it comes. */
  readonly onStdout?: ((chunk: Uint8Array) => void) | undefined;
  readonly onStderr?: ((chunk: Uint8Array) => void) | undefined;
}

/** A command that runs. Iterating over it gives the lines of both its streams, as they come. */
export interface GuestProcess extends AsyncIterable<string> {
  /** The command goes on only as fast as both streams are read. */
  readonly stdout: Readable;
  readonly stderr: Readable;
  /** How it ended; rejects as `exec` does. */
  readonly result: Promise<Pick<ExecResult, 'exitCode' | 'signal' | 'durationMs'>>;
  /** Ends it: SIGTERM, half a second later SIGKILL. Then `result` rejects with `ABORTED`. */
  kill(): void;
}

export interface CopyOptions {
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((bytes: number, totalBytes: number) => void) | undefined;
}

export interface CopyResult {
  readonly files: number;
  readonly bytes: number;
  /** Where the copy is now. */
  readonly destination: string;
}

/** What to wait for; exactly one of these. */
export type WaitCondition =
  /** A GET is answered with this status, or with any below 400; by way of a forward, or of SSH where there is none. */
  | { readonly http: HttpCondition }
  /** Something in the guest listens on this TCP port. */
  | { readonly port: number }
  /** A line of the serial console since the VM was started last: one that contains the text, or that matches. */
  | { readonly log: string | RegExp }
  /** A command of the VM's user exits with 0. */
  | { readonly shell: string }
  /** This path exists. */
  | { readonly file: string }
  /** This systemd unit is active. */
  | { readonly unit: string }
  /** cloud-init has finished. */
  | { readonly cloudInit: true };

export interface WaitOptions {
  /** Default 1 min. */
  readonly timeout?: Duration | undefined;
  readonly signal?: AbortSignal | undefined;
}

export interface LogOptions {
  /** True: goes on with what is added, until the VM is destroyed. Default false. */
  readonly follow?: boolean | undefined;
  /** Only so many of the lines that are there; default all. */
  readonly tail?: number | undefined;
  /** Ends it: `ABORTED` is thrown. */
  readonly signal?: AbortSignal | undefined;
}

/** How any SSH client reaches a VM. */
export interface SshDetails {
  readonly host: string;
  readonly port: number;
  readonly user: string;
  /** Absolute path of the first private key to try. */
  readonly identityFile: string;
  /** All of them. */
  readonly identityFiles: readonly string[];
  /** Absolute path of a file that pins the guest's host key, under the VM's name. */
  readonly knownHosts: string;
  /** A command line for a shell. */
  readonly command: string;
}

export interface VmStatus {
  readonly name: string;
  readonly state: 'running' | 'suspended' | 'stopped';
  readonly backend: string;
  /** Null where there is no process on this host. */
  readonly pid: number | null;
  readonly accelerator: string | null;
  readonly forwards: readonly { readonly host: number; readonly guest: number }[];
  /** Null for a VM that is on no LAN. */
  readonly lan: LanPlace | null;
  readonly provisioning: 'pending' | 'done' | 'failed';
  /** What `ready` declares, and since when it holds; null where it declares nothing. */
  readonly ready: ReadyStatus | null;
  /** The cables that are out: `lan`, or `outside`, by which vmctl reaches the guest. */
  readonly unplugged: readonly Nic[];
  /** ISO 8601; null where its power was not cut, or it was started since. */
  readonly powerCutAt: string | null;
  readonly lastFailure: { readonly step: string; readonly time: string; readonly error: VmctlErrorJson } | null;
  /** Absolute path of the VM's own files. */
  readonly directory: string;
}

export interface ReadyStatus {
  /** As they stand in a VMFile. */
  readonly conditions: readonly string[];
  /** When all of them were seen to hold since the last start, in ISO 8601; null: not yet. */
  readonly since: string | null;
}

/** What can be done with a VM in any state. */
export interface AnyVm {
  readonly name: string;
  /** Where it is on its LAN, which it is in every state; null for a VM that is on none. */
  readonly lan: LanPlace | null;
  /** What it is doing now. */
  status(): Promise<VmStatus>;
  /** The lines of what the guest printed on its serial console, or the provisioners. Control sequences are left out. */
  log(kind?: 'console' | 'provision', options?: LogOptions): AsyncIterable<string>;
  /** Ends it if it runs, and removes every file of it. */
  destroy(): Promise<void>;
}

export interface RebootOptions {
  /**
   * True: its reset button is pressed, which no guest can refuse, and which loses what it has not flushed to its disk.
   * Default false: it is powered off and started, and its ports are others then.
   */
  readonly hard?: boolean | undefined;
  /** How long it may take to power off; default 30 s. */
  readonly grace?: Duration | undefined;
}

/** A VM that is up. */
export interface RunningVm extends AnyVm {
  readonly state: 'running';
  /** Throws `UNSUPPORTED` where the VM cannot be logged in to. */
  readonly ssh: SshDetails;
  /** The port of 127.0.0.1 that leads to this port of the guest. Throws `USAGE` where none does. */
  port(guest: number): number;
  /**
   * Runs a command to its end: text is a line for the login shell, an array is a program and its arguments. Every
   * command goes over one SSH connection. Throws `EXEC_FAILED` (an `ExecError`) unless it exits with 0.
   */
  exec(command: string | readonly string[], options?: ExecOptions): Promise<ExecResult>;
  /** Starts a command and gives its output as streams. */
  spawn(command: string | readonly string[], options?: Omit<ExecOptions, 'onStdout' | 'onStderr'>): GuestProcess;
  /** Copies a file or folder into the guest by the rules of `cp -r`. Relative paths begin in `cwd` and the user's home. */
  copyTo(local: string, guest: string, options?: CopyOptions): Promise<CopyResult>;
  /** The same out of the guest. */
  copyFrom(guest: string, local: string, options?: CopyOptions): Promise<CopyResult>;
  /** Settles when the condition holds; throws `READY_TIMEOUT` saying what was found instead. */
  waitFor(condition: WaitCondition, options?: WaitOptions): Promise<void>;
  /** What is on its screen, as the bytes of a PNG file. Throws `UNSUPPORTED` where it has none. */
  screenshot(): Promise<Uint8Array>;
  /** Powers it off, by force if the guest does not react within the grace; default 30 s. */
  stop(options?: { readonly grace?: Duration | undefined }): Promise<StoppedVm>;
  /** Pauses its vCPUs: the guest stands still, and does not notice. */
  suspend(): Promise<SuspendedVm>;
  /** Another name of `suspend`. */
  pause(): Promise<SuspendedVm>;
  /**
   * Cuts its power: the guest is gone at once, with everything that it has not flushed to its disk (fsync(2), sync(1)).
   * What it has flushed is there after the next start.
   */
  crash(): Promise<StoppedVm>;
  /**
   * Pulls out a network cable: that of its LAN where it is on one, else the one to the outside. While the outside one is
   * out, commands and copies throw `VM_STATE`; those that are under way break off.
   */
  disconnect(nic?: Nic): Promise<void>;
  /** Plugs the cable in again. A start does that with every cable. */
  connect(nic?: Nic): Promise<void>;
  /** Stops it and starts it again, or resets it; settles when it can be logged in to, and is ready. */
  reboot(options?: RebootOptions): Promise<RunningVm>;
  /**
   * Takes it back to the moment at which it was frozen after its provisioning, disk and memory; what runs in it now is
   * ended. Its ports stay. Throws `UNSUPPORTED` where it was not frozen: that takes `warm`.
   */
  reset(): Promise<RunningVm>;
}

/** A VM whose vCPUs are paused. */
export interface SuspendedVm extends AnyVm {
  readonly state: 'suspended';
  resume(): Promise<RunningVm>;
  /** Cuts its power, as for one that runs. */
  crash(): Promise<StoppedVm>;
  stop(options?: { readonly grace?: Duration | undefined }): Promise<StoppedVm>;
}

/** A VM that is powered off; there is nothing to run commands in. */
export interface StoppedVm extends AnyVm {
  readonly state: 'stopped';
  /** Settles when it can be logged in to, and is ready. Its ports are others than before. */
  start(): Promise<RunningVm>;
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
