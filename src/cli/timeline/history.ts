/** What happened to each VM, gathered from the events: its stages, and what each of them did at which time. */
import type { VmctlErrorJson } from '../../errors.js';
import type { Activity, Step, VmEvent } from '../../model/event.js';

/** What a VM was doing. `work` is the stage's own; the other kinds come from the activities of the events. */
export type PhaseKind = 'work' | 'guest' | 'boot-place' | 'lock' | 'vms' | 'provision-step';

/** Times are milliseconds since the epoch. */
export interface Phase {
  readonly kind: PhaseKind;
  readonly activity: Activity | null;
  readonly from: number;
  to: number;
  /** The last words about it; may be empty. */
  text: string;
  /** How far a transfer was, and when; of a long one not every moment. */
  transfer: readonly Sample[];
  totalBytes: number | null;
}

export interface Sample {
  readonly time: number;
  readonly bytes: number;
}

export interface Stage {
  readonly step: Step;
  readonly from: number;
  to: number;
  result: 'open' | 'done' | 'skipped' | 'failed' | 'interrupted';
  /** The summary, or the reason. */
  text: string;
  readonly phases: Phase[];
}

export interface VmHistory {
  readonly name: string;
  readonly stages: Stage[];
  failure: VmctlErrorJson | null;
}

const MOST_SAMPLES = 400;

/** Takes the events in, one after the other, and keeps no more of them than a picture needs. */
export class History {
  readonly #vms = new Map<string, VmHistory>();
  readonly #notes: string[] = [];
  #from: number | null = null;
  #to = 0;

  add(event: VmEvent): void {
    this.#from ??= event.time;
    // A clock that is set back while it goes on does not turn a bar around.
    this.#to = Math.max(this.#to, event.time);
    if (event.vm === null) {
      if (event.type === 'log' && !this.#notes.includes(event.line)) this.#notes.push(event.line);
      return;
    }
    const vm = this.#vms.get(event.vm) ?? { name: event.vm, stages: [], failure: null };
    this.#vms.set(event.vm, vm);
    record(vm, event, this.#to);
  }

  /** In the order of their first events. */
  get vms(): readonly VmHistory[] {
    return [...this.#vms.values()];
  }

  /** What was said about the host. */
  get notes(): readonly string[] {
    return this.#notes;
  }

  get from(): number {
    return this.#from ?? 0;
  }

  /** What has not ended yet is known up to here. */
  get to(): number {
    return this.#to;
  }
}

export function historyOf(events: Iterable<VmEvent>): History {
  const history = new History();
  for (const event of events) history.add(event);
  return history;
}

function record(vm: VmHistory, event: VmEvent, now: number): void {
  if (event.type === 'started') {
    vm.stages.push({ step: event.step, from: now, to: now, result: 'open', text: '', phases: [] });
    return;
  }
  const stage = vm.stages.at(-1);
  // What is still told about a stage after its end, such as the cleaning up, belongs to no bar.
  if (stage === undefined || stage.step !== event.step || stage.result !== 'open') return;
  const phase = stage.phases.at(-1);
  stage.to = now;
  if (phase !== undefined) phase.to = now;
  switch (event.type) {
    case 'status':
      enter(stage, { now, text: event.text, activity: event.activity ?? null });
      return;
    case 'progress':
      transferred(phase ?? enter(stage, { now: stage.from, text: '', activity: null }), event, now);
      return;
    case 'done':
      stage.result = 'done';
      stage.text = event.summary;
      return;
    case 'skipped':
      stage.result = 'skipped';
      stage.text = event.reason;
      return;
    case 'failed':
      stage.result = event.error.code === 'ABORTED' ? 'interrupted' : 'failed';
      stage.text = event.error.message;
      vm.failure = event.error;
      return;
    case 'log':
  }
}

/** Begins a phase, unless it is the one before with other words. */
function enter(stage: Stage, at: { now: number; text: string; activity: Activity | null }): Phase {
  const { now, text, activity } = at;
  const kind = kindOf(activity);
  const before = stage.phases.at(-1);
  if (before?.kind === kind && kind !== 'provision-step') {
    before.text = text;
    return before;
  }
  const phase: Phase = { kind, activity, from: now, to: now, text, transfer: [], totalBytes: null };
  stage.phases.push(phase);
  return phase;
}

function kindOf(activity: Activity | null): PhaseKind {
  if (activity === null) return 'work';
  return activity.kind === 'waiting' ? activity.on : activity.kind;
}

function transferred(phase: Phase, event: { readonly bytes: number; readonly totalBytes: number | null }, now: number) {
  phase.to = now;
  phase.totalBytes = event.totalBytes;
  const samples = [...phase.transfer, { time: now, bytes: event.bytes }];
  phase.transfer = samples.length > MOST_SAMPLES ? samples.filter((_, i) => i % 2 === 0) : samples;
}
