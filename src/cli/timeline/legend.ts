/** What the colours, marks and lines of a timeline mean: of those that are in it. */
import { LEGEND, type Meaning } from './look.js';
import { coordinate, element, textElement, textWidth } from './markup.js';
import type { Bar, Ending, Link } from './rows.js';

export interface LegendFacts {
  readonly bars: readonly Bar[];
  readonly endings: readonly Ending[];
  readonly links: readonly Link[];
}

interface Entry {
  readonly words: string;
  /** `y` is the baseline of the words. */
  readonly draw: (x: number, y: number) => string;
}

const MEANINGS: readonly Meaning[] = [
  'removal',
  'parse',
  'resolve',
  'prepare',
  'start',
  'guest',
  'provision',
  'step',
  'waiting',
];

const LINKS = { dependency: 'waited for that VM', place: 'got its place among those that boot' } as const;

/** Draws it from there on to the right edge, in as many lines as it takes; gives the baseline of the last one. */
export function legend(
  facts: LegendFacts,
  box: { readonly left: number; readonly right: number; readonly top: number },
): { readonly markup: string; readonly bottom: number } {
  let [x, y] = [box.left, box.top + 10];
  const markup = entriesFor(facts).map(({ words, draw }) => {
    const width = 24 + textWidth(words, 12) + 18;
    if (x + width > box.right) [x, y] = [box.left, y + 20];
    const drawn = draw(x, y) + textElement(words, { x: x + 24, y, 'font-size': 12 });
    x += width;
    return drawn;
  });
  return { markup: element('g', {}, markup.join('')), bottom: y };
}

function entriesFor({ bars, endings, links }: LegendFacts): readonly Entry[] {
  const there = new Set(bars.map(({ meaning }) => meaning));
  const swatches = MEANINGS.filter((meaning) => there.has(meaning)).map((meaning) => ({
    words: LEGEND[meaning],
    draw: (x: number, y: number) => element('rect', { class: meaning, x, y: y - 10, width: 18, height: 12, rx: 2 }),
  }));
  const marks = (['failed', 'interrupted'] as const)
    .filter((kind) => endings.some((ending) => ending.kind === kind))
    .map((kind) => ({ words: kind, draw: (x: number, y: number) => mark(kind, { x: x + 9, y: y - 4, radius: 6 }) }));
  const lines = (['dependency', 'place'] as const)
    .filter((kind) => links.some((link) => link.kind === kind))
    .map((kind) => ({ words: LINKS[kind], draw: (x: number, y: number) => arrow(kind, x, y - 4) }));
  return [...swatches, ...marks, ...lines];
}

function arrow(kind: Link['kind'], x: number, y: number): string {
  return (
    element('path', { class: linkClass(kind), d: `M${coordinate(x)} ${y}h14` }) +
    element('path', { class: 'tip', d: `M${coordinate(x + 18)} ${y}l-6 -3.5v7z` })
  );
}

export function linkClass(kind: Link['kind']): string {
  return kind === 'place' ? 'link place' : 'link';
}

/** A circle with a cross, or with two strokes where somebody interrupted it. */
export function mark(
  kind: 'failed' | 'interrupted',
  at: { readonly x: number; readonly y: number; readonly radius: number },
): string {
  const { x, y, radius } = at;
  const half = radius * 0.42;
  const signs = {
    failed: `m${-half} ${-half}l${2 * half} ${2 * half}m0 ${-2 * half}l${-2 * half} ${2 * half}`,
    interrupted: `m${-half * 0.8} ${-half}v${2 * half}m${half * 1.6} 0v${-2 * half}`,
  };
  return (
    element('circle', { class: 'blob', cx: x, cy: y, r: radius, 'stroke-width': 1.5 }) +
    element('path', { class: 'cross', d: `M${coordinate(x)} ${coordinate(y)}${signs[kind]}`, 'stroke-width': 1.6 })
  );
}
