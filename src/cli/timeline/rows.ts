/** One VM's row: a bar for each stage and for what it did in it, in pixels, and what the row says in words. */
import { bytesText, durationText } from '../../../tasks/progress-text.js';
import { unreachable } from '../../errors.js';
import type { Phase, PhaseKind, Sample, Stage, VmHistory } from './history.js';
import { type Meaning, meaningOf } from './look.js';

/** A piece of a row in one colour. Times are milliseconds since the epoch. */
export interface Bar {
  readonly meaning: Meaning;
  readonly from: number;
  readonly to: number;
  /** Inside the bar, where it has room. */
  readonly label: string;
  /** Below the bar, where that has room. */
  readonly caption: string;
  /** Shown by a viewer that is pointed at it. */
  readonly tip: string;
  readonly transfer: readonly Sample[];
}

/** How a VM's row ends. */
export interface Ending {
  readonly kind: 'up' | 'unchanged' | 'failed' | 'interrupted' | 'open';
  readonly at: number;
  readonly words: string;
}

/** The bars in the order in which they are drawn: what a stage did lies on top of the stage. */
export function barsOf(vm: VmHistory): readonly Bar[] {
  return vm.stages.flatMap((stage) => [stageBar(stage), ...stage.phases.map((phase) => phaseBar(phase, stage))]);
}

export function endingOf(vm: VmHistory): Ending {
  const first = vm.stages[0]?.from ?? 0;
  const last = vm.stages.at(-1);
  const at = last?.to ?? first;
  const took = durationText(at - first);
  if (last?.result === 'failed') return { kind: 'failed', at, words: `failed, ${took}` };
  if (last?.result === 'interrupted') return { kind: 'interrupted', at, words: `interrupted, ${took}` };
  if (last === undefined || last.result === 'open') return { kind: 'open', at, words: 'not ended' };
  const acted = vm.stages.some(({ step, result }) => step !== 'parse' && result === 'done');
  return acted ? { kind: 'up', at, words: took } : { kind: 'unchanged', at, words: 'already up' };
}

function stageBar(stage: Stage): Bar {
  const { step, from, to, result } = stage;
  const failed = result === 'failed' && stage.phases.length === 0;
  return {
    meaning: failed ? 'failed' : meaningOf(step, 'work'),
    from,
    to,
    label: stage.phases.length === 0 ? step : '',
    caption: '',
    tip: `${step}: ${durationText(to - from)}${result === 'done' ? '' : `, ${result}`}${stage.text === '' ? '' : `\n${stage.text}`}`,
    transfer: [],
  };
}

function phaseBar(phase: Phase, stage: Stage): Bar {
  const { kind, activity, from, to } = phase;
  const took = durationText(to - from);
  const amount = transferText(phase);
  const failed =
    stage.result === 'failed' && phase === stage.phases.at(-1) && (kind === 'work' || kind === 'provision-step');
  const words = wordsOf(phase, stage);
  const details = [words.long, took, amount].filter((part) => part !== null).join(', ');
  return {
    meaning: failed ? 'failed' : meaningOf(stage.step, kind),
    from,
    to,
    label: activity?.kind === 'waiting' ? `${words.short} ${took}` : words.short,
    caption:
      kind === 'provision-step' ? [words.long, amount].filter((part) => part !== null).join(', ') : (amount ?? ''),
    tip: `${stage.step}: ${details}${failed ? `\n${stage.text}` : ''}`,
    transfer: kind === 'work' ? phase.transfer : [],
  };
}

function wordsOf({ activity, text }: Phase, stage: Stage): { readonly short: string; readonly long: string } {
  if (activity === null) return { short: stage.step, long: text === '' ? stage.step : text };
  if (activity.kind === 'provision-step') {
    const { number, title } = activity;
    return { short: String(number), long: `${number} ${title}` };
  }
  const { on } = activity;
  switch (on) {
    case 'guest':
      return { short: 'boots', long: 'the guest boots until somebody can log in' };
    case 'boot-place':
      return { short: 'waits for its turn', long: 'waits until another guest has booted' };
    case 'lock':
      return { short: 'waits', long: text };
    case 'vms':
      return { short: `waits for ${activity.vms.join(', ')}`, long: `waits for ${activity.vms.join(', ')}` };
    default:
      return unreachable(on);
  }
}

/** `420 MiB, 31 MiB/s on average`; null where nothing was transferred. */
function transferText({ transfer }: Phase): string | null {
  const [first, last] = [transfer[0], transfer.at(-1)];
  if (first === undefined || last === undefined) return null;
  const elapsed = last.time - first.time;
  const rate = elapsed > 0 ? `, ${bytesText(((last.bytes - first.bytes) / elapsed) * 1000)}/s` : '';
  return `${bytesText(last.bytes)}${rate}`;
}

/** The rate between each two moments, in bytes per millisecond, over so many equal pieces of the time. */
export function rates(
  samples: readonly Sample[],
  pieces: number,
): readonly { readonly at: number; readonly rate: number }[] {
  const [first, last] = [samples[0], samples.at(-1)];
  if (first === undefined || last === undefined || last.time <= first.time) return [];
  const width = (last.time - first.time) / pieces;
  return Array.from({ length: pieces }, (_, i) => {
    const from = first.time + i * width;
    return { at: from + width / 2, rate: (bytesAt(samples, from + width) - bytesAt(samples, from)) / width };
  });
}

/** Between two samples, as much as the line between them says. */
function bytesAt(samples: readonly Sample[], time: number): number {
  const next = samples.findIndex((sample) => sample.time >= time);
  const [after, before] = [samples[next], samples[next - 1]];
  if (after === undefined) return samples.at(-1)?.bytes ?? 0;
  if (before === undefined || after.time === before.time) return after.bytes;
  return before.bytes + ((after.bytes - before.bytes) * (time - before.time)) / (after.time - before.time);
}

/** That one VM went on because of what happened to another. */
export interface Link {
  readonly kind: 'dependency' | 'place';
  readonly from: { readonly vm: string; readonly time: number };
  readonly to: { readonly vm: string; readonly time: number };
}

/** How near in time the end of one boot and the start of the next are when one made room for the other. */
const HANDOVER_MS = 100;

export function linksOf(vms: readonly VmHistory[]): readonly Link[] {
  const phasesOf = (vm: VmHistory, kind: PhaseKind) =>
    vm.stages.flatMap(({ phases }) => phases.filter((phase) => phase.kind === kind));
  const ends = new Map(vms.map((vm) => [vm.name, endingOf(vm).at]));
  const left = vms.flatMap((vm) => {
    const booted = phasesOf(vm, 'guest').at(-1);
    const time = booted?.to ?? ends.get(vm.name);
    return time === undefined ? [] : [{ vm: vm.name, time }];
  });
  return vms.flatMap((vm) => [
    ...phasesOf(vm, 'vms').flatMap(({ activity, from, to }) => {
      const needed = activity?.kind === 'waiting' && activity.on === 'vms' ? activity.vms : [];
      return needed.flatMap((name): readonly Link[] => {
        const end = ends.get(name);
        if (end === undefined || end < from || end > to + HANDOVER_MS) return [];
        return [{ kind: 'dependency', from: { vm: name, time: end }, to: { vm: vm.name, time: to } }];
      });
    }),
    ...phasesOf(vm, 'boot-place').flatMap(({ to }): readonly Link[] => {
      const at = left.findIndex(({ vm: other, time }) => other !== vm.name && Math.abs(time - to) <= HANDOVER_MS);
      const [from] = at === -1 ? [] : left.splice(at, 1);
      return from === undefined ? [] : [{ kind: 'place', from, to: { vm: vm.name, time: to } }];
    }),
  ]);
}
