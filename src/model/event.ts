/**
 * The one stream of events. The tree, the plain lines, `--json` and the API's `onEvent` all read it; nothing else
 * tells what is going on.
 */
import type { VmctlErrorJson } from '../errors.js';

/** The five steps of the up flow, in order. */
export const UP_STEPS = ['parse', 'resolve', 'prepare', 'start', 'provision'] as const;

export type UpStep = (typeof UP_STEPS)[number];

/** The steps of the way down. */
export type DownStep = 'stop' | 'destroy';

/** Pausing a VM's vCPUs, and letting them go on. */
export type PauseStep = 'suspend' | 'resume';

/** Failures on purpose, and the way out of them. */
export const FAULT_STEPS = ['crash', 'disconnect', 'connect', 'reboot'] as const;

export type FaultStep = (typeof FAULT_STEPS)[number];

/** Back to the moment at which the VM was frozen. */
export type ResetStep = 'reset';

/** Keeping a VM as it is at a moment, and going back there. */
export const SNAPSHOT_STEPS = ['snapshot', 'restore'] as const;

export type SnapshotStep = (typeof SNAPSHOT_STEPS)[number];

export type Step = UpStep | DownStep | PauseStep | FaultStep | ResetStep | SnapshotStep;

interface EventCommon {
  /** Milliseconds since the epoch. */
  readonly time: number;
  /** Null for what concerns the whole file or the host. */
  readonly vm: string | null;
  readonly step: Step;
}

/** What a status is about, for programs; where a status has none, its words are all there is to know. */
export type Activity =
  /** Nothing is done for this VM until: the guest answers, a place among those that boot is free, somebody lets go of it. */
  | { readonly kind: 'waiting'; readonly on: 'guest' | 'boot-place' | 'lock' }
  /** The same until these VMs are provisioned. */
  | { readonly kind: 'waiting'; readonly on: 'vms'; readonly vms: readonly string[] }
  /** A provision step runs; `number` is its place in the VMFile, from 1. */
  | { readonly kind: 'provision-step'; readonly number: number; readonly total: number; readonly title: string };

export type VmEventBody =
  | { readonly type: 'started' }
  /** What is going on at this moment, in a few words; replaces the one before. */
  | { readonly type: 'status'; readonly text: string; readonly activity?: Activity }
  | { readonly type: 'progress'; readonly bytes: number; readonly totalBytes: number | null }
  /** A line that the guest or a tool printed; `note` is vmctl's own. */
  | { readonly type: 'log'; readonly stream: 'stdout' | 'stderr' | 'note'; readonly line: string }
  | { readonly type: 'skipped'; readonly reason: string }
  | { readonly type: 'failed'; readonly error: VmctlErrorJson }
  | { readonly type: 'done'; readonly summary: string; readonly durationMs: number };

export type VmEvent = EventCommon & VmEventBody;

export type EventListener = (event: VmEvent) => void;

/** What a stage function is given to say how far it is. It knows which VM and step it speaks for. */
export interface StageReporter {
  status(text: string, activity?: Activity): void;
  progress(bytes: number, totalBytes: number | null): void;
  log(line: string, stream?: 'stdout' | 'stderr' | 'note'): void;
}

/** Says nothing. */
export const silentReporter: StageReporter = { status: () => {}, progress: () => {}, log: () => {} };

/** What every stage function takes besides its subject. */
export interface StageContext {
  readonly signal: AbortSignal;
  readonly reporter: StageReporter;
}
