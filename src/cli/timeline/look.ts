/** How a timeline looks: its colours on light and on dark, and what the legend calls them. */
import type { Step } from '../../model/event.js';
import type { PhaseKind } from './history.js';

/** What a bar says by its colour. */
export type Meaning =
  | 'parse'
  | 'resolve'
  | 'prepare'
  | 'start'
  | 'guest'
  | 'provision'
  | 'step'
  | 'waiting'
  | 'removal'
  | 'failed';

export const LEGEND: Readonly<Record<Meaning, string>> = {
  parse: 'parse',
  resolve: 'resolve, with its downloads',
  prepare: 'prepare',
  start: 'start',
  guest: 'the guest boots',
  provision: 'provision',
  step: 'provision step',
  waiting: 'waiting',
  removal: 'destroy',
  failed: 'failed',
};

const COLOURS: Readonly<Record<Exclude<Meaning, 'waiting'>, string>> = {
  parse: '#8c959f',
  resolve: '#4493f8',
  prepare: '#2fb8ac',
  start: '#e3a008',
  guest: '#b083f0',
  provision: '#87c38f',
  step: '#3fb950',
  removal: '#c69026',
  failed: '#f85149',
};

const BY_STEP: Readonly<Record<Step, Meaning>> = {
  parse: 'parse',
  resolve: 'resolve',
  prepare: 'prepare',
  start: 'start',
  provision: 'provision',
  stop: 'removal',
  destroy: 'removal',
  suspend: 'removal',
  resume: 'start',
  // A timeline is of `up` and `reload`, which do none of these.
  crash: 'removal',
  disconnect: 'removal',
  connect: 'start',
  reboot: 'start',
  reset: 'start',
  snapshot: 'start',
  restore: 'start',
};

const BY_PHASE: Readonly<Record<Exclude<PhaseKind, 'work'>, Meaning>> = {
  guest: 'guest',
  'boot-place': 'waiting',
  lock: 'waiting',
  vms: 'waiting',
  'provision-step': 'step',
};

export function meaningOf(step: Step, kind: PhaseKind): Meaning {
  return kind === 'work' ? BY_STEP[step] : BY_PHASE[kind];
}

const LIGHT = { page: '#ffffff', ink: '#1f2328', dim: '#59636e', grid: '#d1d9e0', band: '#f6f8fa', alarm: '#c4221b' };
const DARK = { page: '#0d1117', ink: '#e6edf3', dim: '#9198a1', grid: '#30363d', band: '#151b23', alarm: '#ff7b72' };

export const FONT = 'system-ui,-apple-system,"Segoe UI",Roboto,"Liberation Sans","DejaVu Sans",Arial,sans-serif';

/** A reader that knows neither variables nor media queries shows the light one, by the attributes that stand first. */
export function styleSheet(): string {
  const themed = (theme: typeof LIGHT) =>
    [
      `.page{fill:${theme.page}}`,
      `text{fill:${theme.ink}}`,
      `.dim{fill:${theme.dim}}`,
      `.alarm{fill:${theme.alarm}}`,
      `.grid{stroke:${theme.grid}}`,
      `.band{fill:${theme.band}}`,
      `.waiting{stroke:${theme.dim}}`,
      `.hatch{stroke:${theme.dim}}`,
      `.link{stroke:${theme.dim}}`,
      `.tip{fill:${theme.dim}}`,
      `.cross{stroke:${theme.alarm}}`,
      `.blob{fill:${theme.page};stroke:${theme.alarm}}`,
    ].join('');
  const bars = Object.entries(COLOURS).map(([meaning, colour]) => `.${meaning}{fill:${colour}}`);
  return [
    `text{font-family:${FONT}}`,
    'text.on{fill:#0d1117}',
    ...bars,
    '.waiting{fill:url(#hatch);stroke-width:.75}',
    '.grid,.link,.hatch,.cross{fill:none}',
    '.link{stroke-width:1.2}.place{stroke-dasharray:2 3}',
    '.rate{fill:#4493f8;fill-opacity:.35;stroke:#4493f8;stroke-width:1}',
    themed(LIGHT),
    `@media (prefers-color-scheme:dark){${themed(DARK)}text.on{fill:#0d1117}}`,
  ].join('\n');
}

/** For the page around the picture. */
export const PAGE_STYLE = `body{margin:0;background:${LIGHT.page}}svg{display:block;margin:auto;max-width:100%;height:auto}@media (prefers-color-scheme:dark){body{background:${DARK.page}}}`;
