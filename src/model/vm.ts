/** The later stages: a VM whose files exist, and what it turned out to be when it was looked at. */
import { VmctlError } from '../errors.js';
import { lanOf } from './lan.js';
import type { Forward, VmSpec } from './spec.js';

export type BackendKind = 'qemu' | 'propolis' | 'noop';

/** A local disk image that was looked at with `qemu-img info`. It is never written. */
export interface BaseImage {
  /** Absolute, symbolic links resolved. */
  readonly path: string;
  readonly format: 'qcow2' | 'raw';
  readonly virtualBytes: number;
  /** The file as it was when it was looked at; absent for one that never changes, as those of the cache. */
  readonly file?: { readonly bytes: number; readonly modifiedMs: number } | undefined;
}

/** An Ed25519 key pair in OpenSSH's formats. */
export interface KeyPair {
  /** The whole `-----BEGIN OPENSSH PRIVATE KEY-----` file, newline at the end. */
  readonly privateKey: string;
  /** `ssh-ed25519 AAAA… comment`, without a newline. */
  readonly publicKey: string;
}

/** What the seed says to the guest. Raw documents are the user's and go in as they are. */
export interface SeedContent {
  readonly hostname: string;
  readonly user: string;
  /** The user's login shell, which has to be in the image: sshd refuses users without one. Default `/bin/bash`. */
  readonly shell?: string;
  readonly authorizedKeys: readonly string[];
  readonly hostKey: KeyPair;
  readonly rawUserData: string | null;
  readonly rawNetworkConfig: string | null;
}

/** A VM with everything at hand that its preparation needs: the end of the resolve stage. */
export interface ResolvedVm {
  readonly spec: VmSpec;
  readonly image: BaseImage;
  /** Made for this VM alone; null where the user brings a key. */
  readonly userKey: KeyPair | null;
  readonly seed: SeedContent | null;
}

/** A prepared VM: its files exist. Plain JSON, kept in the VM's directory, never changed afterwards. */
export interface VmHandle {
  readonly name: string;
  readonly backend: BackendKind;
  /** Absolute path of the VM's own directory. */
  readonly directory: string;
  /** Stands in the command line of the VM's process, so that no other process can be taken for it. */
  readonly uuid: string;
  /** Null where the VM has no network card. */
  readonly mac: string | null;
  readonly spec: VmSpec;
  readonly image: BaseImage;
  /** ISO 8601. */
  readonly createdAt: string;
}

/** A serial port of a guest besides its console, over which a program in it can be spoken to. */
export interface GuestPort {
  /** Its name in the guest. */
  readonly device: string;
  /** The Unix socket that is its other end; an absolute path. */
  readonly socket: string;
}

/** Where a service of the guest can be reached from here. */
export interface Endpoint {
  readonly host: string;
  readonly port: number;
}

export type Accelerator = 'kvm' | 'hvf' | 'tcg' | 'none';

export interface StoppedVm {
  readonly state: 'stopped';
  readonly handle: VmHandle;
  /** There when it ended without being stopped and without powering itself off: the last lines that it logged. */
  readonly crash?: { readonly log: string } | undefined;
}

/** A network card of a VM, by where its cable leads: out of the host's networks, or to the VMs beside it. */
export const NICS = ['outside', 'lan'] as const;

export type Nic = (typeof NICS)[number];

interface LiveVm {
  readonly handle: VmHandle;
  /** Null where the backend has no process on this host. */
  readonly pid: number | null;
  /** Null while that is not known: the VM is only just starting. */
  readonly ssh: Endpoint | null;
  readonly forwards: readonly Forward[];
  readonly accelerator: Accelerator;
  /** The cards whose cable is out, because somebody pulled it. */
  readonly unplugged: readonly Nic[];
}

export interface RunningVm extends LiveVm {
  readonly state: 'running';
}

export interface SuspendedVm extends LiveVm {
  readonly state: 'suspended';
  /** Who paused it: somebody, or the backend because the host's disk failed or is full. */
  readonly pausedBy: 'request' | 'disk-error';
}

/** The cards of a VM, in the order in which they are in the machine. */
export function nicsOf({ spec }: VmHandle): readonly Nic[] {
  if (spec.network.kind === 'none') return [];
  return lanOf(spec) === null ? ['outside'] : NICS;
}

/** A prepared VM as its backend sees it at this moment. */
export type ObservedVm = StoppedVm | RunningVm | SuspendedVm;

export type VmState = ObservedVm['state'];

/** A running VM whose provisioning is done: the end of the up flow. */
export interface ProvisionedVm {
  readonly vm: RunningVm;
  readonly stepsRun: number;
  /** Steps whose `run` did not demand it again. */
  readonly stepsSkipped: number;
}

/** What may be done to a VM, and in which states. Destroying is always legal. */
const LEGAL = {
  start: ['stopped'],
  stop: ['running', 'suspended'],
  suspend: ['running'],
  resume: ['suspended'],
  crash: ['running', 'suspended'],
  // QEMU takes a paused VM that is reset for one that never ran.
  reset: ['running'],
  // The cable of a network card, in or out.
  connect: ['running', 'suspended'],
  disconnect: ['running', 'suspended'],
} as const satisfies Record<string, readonly VmState[]>;

export type Transition = keyof typeof LEGAL;

/** Throws `VM_STATE` when a VM in this state cannot make the transition. Every backend calls it first. */
export function assertTransition(name: string, state: VmState, transition: Transition): void {
  const legal: readonly VmState[] = LEGAL[transition];
  if (!legal.includes(state)) throw illegalTransition(name, state, transition);
}

/** What `assertTransition` throws. */
export function illegalTransition(name: string, state: VmState, transition: Transition): VmctlError {
  const legal = LEGAL[transition].join(' or ');
  return new VmctlError('VM_STATE', `cannot ${transition} VM "${name}": it is ${state}, not ${legal}`, {
    fields: { vm: name, state, transition },
  });
}
