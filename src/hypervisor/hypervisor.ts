/** What a backend is: it prepares, runs and removes VMs, and says what they are doing. It owns no policy. */
import type { Duplex } from 'node:stream';
import { VmctlError } from '../errors.js';
import type { StageContext } from '../model/event.js';
import type { VmSpec } from '../model/spec.js';
import type {
  Accelerator,
  BackendKind,
  ObservedVm,
  ResolvedVm,
  RunningVm,
  StoppedVm,
  SuspendedVm,
  VmHandle,
} from '../model/vm.js';

/** An ability that a backend may lack: then the reason is data, known before anything is tried. */
export type Capability = { readonly supported: true } | { readonly supported: false; readonly reason: string };

export interface Capabilities {
  /** Whether there is a guest behind it that can be logged in to. */
  readonly guestAccess: Capability;
  readonly suspend: Capability;
  readonly console: Capability;
  /** Whether what the serial console prints is kept in `console.log`. */
  readonly consoleLog: Capability;
  /** Whether a VM has a screen that can be looked at. */
  readonly screenshot: Capability;
  /** The kinds of `network` that this backend can give a VM. */
  readonly networks: Readonly<Record<'user' | 'tap' | 'vnic' | 'none', Capability>>;
}

/** For a VM without a screen. */
export function noScreen(name: string, reason: string): VmctlError {
  return new VmctlError('UNSUPPORTED', `VM "${name}" has no screen: ${reason}`, { fields: { vm: name } });
}

/** How a VM's serial console is reached. */
export type ConsoleEndpoint =
  | { readonly kind: 'unix'; readonly path: string }
  /** Where it is no socket of this host: the backend makes a stream of it, with what was printed last at its beginning. */
  | { readonly kind: 'stream'; readonly connect: (signal: AbortSignal) => Promise<Duplex> }
  | { readonly kind: 'none' };

export interface StopOptions {
  /** How long the guest may take to power off by itself before it is ended by force, in milliseconds. */
  readonly graceMs: number;
}

/** What it took to end the VM: the guest did it, its power went, or the process behind it was told to end. */
export type StopMethod = 'guest' | 'halt' | 'SIGTERM' | 'SIGKILL';

export interface PrepareOptions {
  /** Where the finished VM directory is to be; it does not exist yet. */
  readonly directory: string;
  /** Where to build it; whatever is there is the rest of a preparation that was killed. */
  readonly staging: string;
  /** False where it need not survive a power cut; default true. */
  readonly durable?: boolean;
}

/** What is known of a VM whose files are damaged. */
export interface VmRemains {
  readonly name: string;
  readonly backend: BackendKind;
  readonly directory: string;
}

/** A process of a backend that works in the directory of a VM. */
export interface WorkProcess {
  readonly pid: number;
  /** The VM that it says it is. */
  readonly vm: string;
  /** Absolute, symbolic links resolved; null when it is gone. */
  readonly directory: string | null;
}

/** A program that a backend needs: where it is and what it says its version is, or why it cannot be used. */
export type ProgramFacts =
  | { readonly found: true; readonly path: string; readonly version: string }
  | { readonly found: false; readonly name: string; readonly problem: string };

/** Whether guests run on KVM, and if not, what is in the way. */
export type KvmState = 'works' | 'absent' | 'forbidden' | 'unopenable' | 'broken';

/** What guests would run on; `problem` where the accelerator that was asked for cannot be had. */
export type AcceleratorFacts =
  | {
      readonly accelerator: Exclude<Accelerator, 'none'>;
      /** Why it is not the fast one; null when it is, or when software emulation was asked for. */
      readonly reason: string | null;
      /** Null where KVM was not looked at. */
      readonly kvm: KvmState | null;
    }
  | { readonly problem: string; readonly kvm: KvmState | null };

/** Something that a backend needs of its host besides its program. */
export interface HostNeed {
  /** Stable, for programs. */
  readonly id: string;
  readonly title: string;
  readonly found: string;
  /** Null where all is well. */
  readonly problem: string | null;
  /** What to do about the problem: a command to type, or a sentence. */
  readonly next: string;
}

/** What this host offers to a backend. */
export interface BackendFacts {
  /** Null for a backend that needs none. */
  readonly program: ProgramFacts | null;
  /** Null where there is none to choose: without the program, or without guests. */
  readonly accelerator: AcceleratorFacts | null;
  /** Absolute path of the UEFI firmware, or that there is none; null where the backend has no use for any. */
  readonly firmware: { readonly path: string | null } | null;
  /** What else it needs; absent where that is nothing. */
  readonly needs?: readonly HostNeed[];
}

/**
 * One interface for QEMU, Propolis and the Noop backend. Every method that changes something refuses an illegal
 * transition with `VM_STATE`; the caller holds the VM's lock.
 */
export interface Hypervisor {
  readonly kind: BackendKind;
  readonly capabilities: Capabilities;
  /**
   * Throws `HOST_UNSUPPORTED`, with what to install, when this host cannot run VMs of this backend; with a spec, also
   * when it lacks what that VM needs, such as its firmware.
   */
  checkHost(context: StageContext, spec?: VmSpec): Promise<void>;
  /** Throws, as `checkHost` does, when this host lacks what a VM is to be connected to; tries nothing. */
  checkNetwork(spec: VmSpec): Promise<void>;
  /** Builds the VM's files completely or not at all. */
  prepare(vm: ResolvedVm, options: PrepareOptions, context: StageContext): Promise<VmHandle>;
  start(vm: StoppedVm, context: StageContext): Promise<RunningVm>;
  stop(vm: RunningVm | SuspendedVm, options: StopOptions, context: StageContext): Promise<StopMethod>;
  suspend(vm: RunningVm, context: StageContext): Promise<SuspendedVm>;
  resume(vm: SuspendedVm, context: StageContext): Promise<RunningVm>;
  /** Ends the VM if it runs and removes every file of it; done when nothing is left. */
  destroy(handle: VmHandle, context: StageContext): Promise<void>;
  /** Does the same for a VM whose handle cannot be read any more. */
  discard(remains: VmRemains): Promise<void>;
  /** What the VM is doing now: asked of the world, never remembered. */
  observe(handle: VmHandle): Promise<ObservedVm>;
  /**
   * Makes sure that the VM's disk is there and stands on the image that it was made from: on any other one the guest's
   * file system would fall apart. Throws `VM_DAMAGED` or `IMAGE_NOT_FOUND`.
   */
  checkDisk(handle: VmHandle): Promise<void>;
  console(handle: VmHandle): ConsoleEndpoint;
  /**
   * Whether the guest has taken a connection that was made through this forward of 127.0.0.1, and still has it: the
   * backend takes each at once itself, also where nobody listens in the guest.
   */
  forwardTaken(handle: VmHandle, hostPort: number): Promise<boolean>;
  /** What is on the screen of a VM that runs, as the bytes of a PNG file. Throws `UNSUPPORTED` where it has none. */
  screenshot(vm: RunningVm | SuspendedVm): Promise<Uint8Array>;
  /** What this host offers; finds out as much as it can, and throws `ABORTED` at most. */
  examineHost(signal: AbortSignal): Promise<BackendFacts>;
  /** The processes of this user that work, or worked, in a VM's directory below `vms`; null where this host does not tell. */
  findProcesses(vms: string): Promise<readonly WorkProcess[] | null>;
}
