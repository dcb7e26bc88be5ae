/** What a backend is: it prepares, runs and removes VMs, and says what they are doing. It owns no policy. */
import type { Duplex } from 'node:stream';
import { VmctlError } from '../errors.js';
import type { StageContext } from '../model/event.js';
import type { Forward, VmSpec } from '../model/spec.js';
import type {
  Accelerator,
  BackendKind,
  GuestPort,
  Nic,
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
  /** Whether a VM's power can be cut. */
  readonly crash: Capability;
  /** Whether a VM has a reset button. */
  readonly reset: Capability;
  /** Whether the cable of a VM's network card can be pulled out while it runs. */
  readonly links: Capability;
  readonly console: Capability;
  /** Whether a VM has a screen that can be looked at. */
  readonly screenshot: Capability;
  /** Whether a VM's memory can be saved, and a VM go on from it: `save`, `freeze`, and the start mode `restore`. */
  readonly memorySnapshots: Capability;
  /** The kinds of `network` that this backend can give a VM. */
  readonly networks: Readonly<Record<'user' | 'tap' | 'vnic' | 'none', Capability>>;
}

/** For a VM without a screen. */
export function noScreen(name: string, reason: string): VmctlError {
  return new VmctlError('UNSUPPORTED', `VM "${name}" has no screen: ${reason}`, { fields: { vm: name } });
}

/** The end of a cable that is plugged in or pulled out. */
export interface LinkChange {
  readonly nic: Nic;
  readonly up: boolean;
}

/** For a backend that cannot save a VM's memory. */
export function noMemorySnapshots(name: string, reason: string): VmctlError {
  return new VmctlError('UNSUPPORTED', `the memory of VM "${name}" cannot be saved: ${reason}`, {
    fields: { vm: name },
  });
}

/** A machine's saved state: that of its devices in one file, its memory in the same one or in a second. */
export interface SavedState {
  /** Absolute path. */
  readonly state: string;
  /** Absolute path of the file that is the memory, byte for byte; null where the memory is in `state`. */
  readonly memory: string | null;
}

/** What a machine's memory is when it starts. */
export type StartMode =
  /** Empty: the guest boots. */
  | { readonly kind: 'boot' }
  /**
   * The same, in the file of the VM's directory that `reserveMemory` has made, so that the VM can be frozen without its
   * memory being copied.
   */
  | { readonly kind: 'freezable' }
  /**
   * What was saved: the guest goes on where it was, with its clock and its random numbers as they were, which the caller
   * sets right. A file that is the memory is only read; VMs that were restored from the same one share it. The network
   * card may have another MAC address than when it was saved, where the guest is then told.
   */
  | {
      readonly kind: 'restore';
      readonly saved: SavedState;
      /** Ports of this host that it is to have; default those that its spec says. */
      readonly forwards?: readonly Forward[];
      /** The cards whose cable is out when it goes on, as after `setLink`; default none, as after every start. */
      readonly unplugged?: readonly Nic[];
    };

/** What a frozen VM consists of, each file in one folder. */
export const FROZEN_FILES = {
  /** The disk at that moment; never written again. */
  disk: 'disk.qcow2',
  /** Both absent where only the disk was frozen. */
  memory: 'memory',
  state: 'state',
} as const;

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
  /** The text of what is recorded of the VM from its beginning; default nothing. */
  readonly record?: string;
}

/** What is known of a VM whose files are damaged. */
export interface VmRemains {
  readonly name: string;
  readonly backend: BackendKind;
  readonly directory: string;
}

/** A process of a backend that works in the directory of a VM. */
export interface WorkProcess {
  readonly backend: BackendKind;
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
  /**
   * Keeps the space on the disk that a VM takes which is started `freezable`, until it is stopped or frozen. Says why it
   * cannot be kept; the VM can be started otherwise then.
   */
  reserveMemory(vm: StoppedVm, context: StageContext): Promise<Capability>;
  /** Default mode: `boot`. A VM that could not be restored is stopped again. */
  start(vm: StoppedVm, context: StageContext, mode?: StartMode): Promise<RunningVm>;
  stop(vm: RunningVm | SuspendedVm, options: StopOptions, context: StageContext): Promise<StopMethod>;
  suspend(vm: RunningVm, context: StageContext): Promise<SuspendedVm>;
  resume(vm: SuspendedVm, context: StageContext): Promise<RunningVm>;
  /** Cuts the VM's power: it is gone at once, and keeps no more than its guest has flushed to its disk before. */
  crash(vm: RunningVm | SuspendedVm, context: StageContext): Promise<void>;
  /** Presses the VM's reset button; settles when its guest begins anew. A cable that is out stays out. */
  reset(vm: RunningVm, context: StageContext): Promise<void>;
  /** Plugs a cable in or pulls it out, whatever the guest does; it is in again after the next start. */
  setLink(vm: RunningVm | SuspendedVm, link: LinkChange, context: StageContext): Promise<void>;
  /**
   * Pauses the VM and writes its state, memory included, to `path`, which comes into being complete or not at all. The
   * VM stays paused, so that its disk can be kept as it was at that moment; `resume` or `stop` it then.
   */
  save(vm: RunningVm | SuspendedVm, path: string, context: StageContext): Promise<SuspendedVm>;
  /**
   * Turns a running VM into files in `folder`, which exists and is empty: its disk, what `prepareFrozen` needs besides,
   * and, where it runs, its memory and state. The memory is a file of its own where the VM was started `freezable`, which
   * costs nothing; else it is written into the state. Afterwards the VM is stopped, and its disk is frozen: not to be written again. `branch` gives it another one.
   */
  freeze(vm: ObservedVm, folder: string, context: StageContext): Promise<StoppedVm>;
  /** Builds the files of a new VM that starts from a frozen one, completely or not at all. */
  prepareFrozen(spec: VmSpec, folder: string, options: PrepareOptions, context: StageContext): Promise<VmHandle>;
  /** Gives a stopped VM a fresh disk on that of a frozen one in the place of its own; its handle says so afterwards. */
  branch(vm: StoppedVm, folder: string, context: StageContext): Promise<StoppedVm>;
  /** What a saved state depends on besides the VM, each with its name: nothing else can load it. */
  stateFacts(signal: AbortSignal): Promise<Readonly<Record<string, string>>>;
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
  /** Null for a backend whose machines have none. */
  guestPort(handle: VmHandle): GuestPort | null;
  /**
   * Whether the guest has taken a connection that was made through this forward of 127.0.0.1, and still has it: the
   * backend takes each at once itself, also where nobody listens in the guest.
   */
  forwardTaken(handle: VmHandle, hostPort: number): Promise<boolean>;
  /**
   * Sees to it that `console.log` in the VM's directory has everything that the guest has printed so far. True where the
   * VM's own process writes it at once, so that nobody need ask again. Throws where the rest cannot be had.
   */
  catchUpConsole(vm: VmRemains, signal?: AbortSignal): Promise<boolean>;
  /** What is on the screen of a VM that runs, as the bytes of a PNG file. Throws `UNSUPPORTED` where it has none. */
  screenshot(vm: RunningVm | SuspendedVm): Promise<Uint8Array>;
  /** What this host offers; finds out as much as it can, and throws `ABORTED` at most. */
  examineHost(signal: AbortSignal): Promise<BackendFacts>;
  /** The processes of this user that work, or worked, in a VM's directory below `vms`; null where this host does not tell. */
  findProcesses(vms: string): Promise<readonly WorkProcess[] | null>;
  /** Ends such a process at once, whatever is lost; that it is gone already is no failure. */
  killProcess(process: WorkProcess): Promise<void>;
}
