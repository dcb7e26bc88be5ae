/** A VM in each of its states, and what its methods take and give, as types alone. */
import type { Readable } from 'node:stream';
import type { VmctlErrorJson } from '../errors.js';
import type { LanPlace } from '../model/lan.js';
import type { Nic } from '../model/vm.js';
import type { HttpCondition } from '../vmfile/declaration.js';
import type { Duration } from './duration.js';
import type { ExecResult } from './errors.js';

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
  /** When its memory was saved, in ISO 8601; null for one that is not suspended to the disk. Such a one is `stopped`. */
  readonly suspendedAt: string | null;
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

/** A VM as it was at a moment, disk and memory, under a name of its own. */
export interface VmSnapshot {
  readonly tag: string;
  /** ISO 8601. */
  readonly takenAt: string;
  /** What it takes on the disk now. */
  readonly bytes: number;
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
  /**
   * Takes it back to a snapshot, any number of times: its files, and the processes that ran in it then. What runs in it
   * now is ended, and what happened since is lost. It has the ports that it has now, where it runs, and every cable is
   * in. Throws `SNAPSHOT_NOT_FOUND`, and `UNSUPPORTED` where QEMU, its accelerator or the processor are others than then.
   */
  restore(tag: string): Promise<RunningVm>;
  /** Its snapshots, the oldest first. */
  snapshots(): Promise<readonly VmSnapshot[]>;
  /** Gives up a snapshot; its disk stays for as long as another one, or the VM, stands on it. Throws `SNAPSHOT_NOT_FOUND`. */
  deleteSnapshot(tag: string): Promise<void>;
  /** Ends it if it runs, and removes every file of it, its snapshots too. */
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
  suspend(options?: { readonly toDisk?: false | undefined }): Promise<SuspendedVm>;
  /** Writes its memory to the disk, and ends its process. Throws `UNSUPPORTED` where the backend cannot save memory. */
  suspend(options: { readonly toDisk: true }): Promise<SavedVm>;
  /** Another name of `suspend` without options. */
  pause(): Promise<SuspendedVm>;
  /**
   * Keeps it as it is now, disk and memory, under a name for `restore`: up to 63 letters, digits, dots, hyphens and
   * underscores. It stands still meanwhile, as long as copying what it uses of its memory takes, and goes on, on the same
   * ports. Its connections break off, the commands that are under way with them. Throws `USAGE` for a name that cannot
   * be one or is taken, `UNSUPPORTED` where the backend cannot save memory.
   */
  snapshot(tag: string): Promise<void>;
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
  /** Writes its memory to the disk, and ends its process, as for one that runs. */
  suspend(options: { readonly toDisk: true }): Promise<SavedVm>;
  /** Cuts its power, as for one that runs. */
  crash(): Promise<StoppedVm>;
  stop(options?: { readonly grace?: Duration | undefined }): Promise<StoppedVm>;
}

/** A VM that is suspended to the disk: it has no process, and its `status()` says `stopped` and `suspendedAt`. */
export interface SavedVm extends AnyVm {
  readonly state: 'saved';
  /**
   * Goes on where it was, with the time of now and on other ports. What was saved is gone then. Throws `VM_STATE` where
   * it is gone already, because the VM was started or stopped otherwise.
   */
  resume(): Promise<RunningVm>;
  /** Gives up its memory: what starts next boots from its disk. */
  stop(): Promise<StoppedVm>;
}

/** A VM that is powered off; there is nothing to run commands in. */
export interface StoppedVm extends AnyVm {
  readonly state: 'stopped';
  /** Settles when it can be logged in to, and is ready. Its ports are others than before. */
  start(): Promise<RunningVm>;
}
