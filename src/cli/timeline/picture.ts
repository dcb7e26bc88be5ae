/**
 * The events of an `up` as one SVG: a row for each VM, a bar for each stage and provision step, downloads with their rate,
 * and lines from what was waited for to what waited. A pure function; it needs no font, no script and no network, and
 * follows the light or dark mode of whoever looks at it.
 */
import { durationText } from '../../../tasks/progress-text.js';
import type { VmEvent } from '../../model/event.js';
import { ticks } from './axis.js';
import { type History, type VmHistory, historyOf } from './history.js';
import { legend, linkClass, mark } from './legend.js';
import { styleSheet } from './look.js';
import { coordinate, element, escapeMarkup, fitText, textElement, textWidth, wrapText } from './markup.js';
import { type Bar, type Ending, type Link, barsOf, endingOf, linksOf, rates } from './rows.js';

const WIDTH = 1200;
const MARGIN = 24;
const ENDING_WIDTH = 128;
const WIDEST_NAME = 220;
/** With more VMs than these a row is only as high as its name. */
const MOST_ROOMY = 24;
const MOST_LINKS = 80;
const MOST_FAILURES = 20;
/** What lasts too short to be seen is seen all the same. */
const NARROWEST = 1.5;

/** How high things are; the roomy one has names in the bars and captions below them. */
interface Density {
  readonly roomy: boolean;
  readonly bar: number;
  readonly pad: number;
  readonly caption: number;
  readonly name: number;
}

const ROOMY: Density = { roomy: true, bar: 20, pad: 7, caption: 17, name: 13 };
const DENSE: Density = { roomy: false, bar: 10, pad: 2.5, caption: 0, name: 10.5 };

export interface PictureOptions {
  /** What was run, such as `vmctl up`. */
  readonly title: string;
}

export function timelineOf(events: Iterable<VmEvent>, options: PictureOptions): string {
  return drawTimeline(historyOf(events), options);
}

interface Track {
  readonly vm: VmHistory;
  readonly bars: readonly Bar[];
  readonly ending: Ending;
}

interface Row extends Track {
  readonly top: number;
  readonly height: number;
  /** Of the bar. */
  readonly y: number;
}

export function drawTimeline(history: History, { title }: PictureOptions): string {
  return new Drawing(history, title).svg();
}

class Drawing {
  readonly #history: History;
  readonly #title: string;
  readonly #density: Density;
  readonly #left: number;
  readonly #right = WIDTH - MARGIN - ENDING_WIDTH;
  readonly #total: number;
  readonly #tracks: readonly Track[];

  constructor(history: History, title: string) {
    this.#history = history;
    this.#title = title;
    this.#tracks = history.vms.map((vm) => ({ vm, bars: barsOf(vm), ending: endingOf(vm) }));
    this.#density = history.vms.length > MOST_ROOMY ? DENSE : ROOMY;
    this.#total = Math.max(1, history.to - history.from);
    const widest = Math.max(0, ...history.vms.map(({ name }) => textWidth(name, this.#density.name)));
    this.#left = MARGIN + Math.min(WIDEST_NAME, Math.max(48, widest + 8)) + 12;
  }

  svg(): string {
    const facts = {
      bars: this.#tracks.flatMap(({ bars }) => bars),
      endings: this.#tracks.map(({ ending }) => ending),
      links: this.#shownLinks(),
    };
    const head = legend(facts, { left: MARGIN, right: WIDTH - MARGIN, top: 72 });
    const axisY = head.bottom + 22;
    const rows = this.#rows(axisY + 8);
    const bottom = rows.reduce((_, { top, height }) => top + height, axisY + 8);
    const repeated = bottom - axisY > 700;
    const foot = this.#foot(rows, bottom + (repeated ? 22 : 0));
    const height = foot.bottom + MARGIN;
    const summary = `${this.#summary(rows)} · ${new Date(this.#history.from).toISOString().replace('T', ' ').slice(0, 19)} UTC`;
    const parts = [
      element('title', {}, escapeMarkup(`${this.#title}: ${this.#summary(rows)}`)),
      element('style', {}, styleSheet()),
      HATCH,
      element('rect', { class: 'page', width: WIDTH, height, fill: '#ffffff' }),
      textElement(this.#title, { x: MARGIN, y: 36, 'font-size': 20, 'font-weight': 600 }),
      textElement(summary, { class: 'dim', x: MARGIN, y: 56, 'font-size': 13 }),
      head.markup,
      ...rows.map((row, i) => this.#background(row, i)),
      this.#axis(axisY, { top: axisY + 6, bottom, repeated }),
      ...rows.map((row) => this.#row(row)),
      this.#links(rows, facts.links),
      ...rows.map((row) => this.#mark(row)),
      foot.markup,
    ];
    const box = `0 0 ${WIDTH} ${coordinate(height)}`;
    const attributes = { xmlns: 'http://www.w3.org/2000/svg', width: WIDTH, height, viewBox: box, role: 'img' };
    return `${element('svg', attributes, `\n${parts.filter((part) => part !== '').join('\n')}\n`)}\n`;
  }

  #x(time: number): number {
    return this.#left + ((time - this.#history.from) / this.#total) * (this.#right - this.#left);
  }

  #summary(rows: readonly Row[]): string {
    const count = (kind: Ending['kind'], words: string) => {
      const many = rows.filter(({ ending }) => ending.kind === kind).length;
      return many === 0 ? [] : [`${many} ${words}`];
    };
    const ends = [
      ...count('up', 'up'),
      ...count('unchanged', 'already up'),
      ...count('failed', 'failed'),
      ...count('interrupted', 'interrupted'),
      ...count('open', 'not ended'),
    ];
    const many = rows.length === 1 ? '1 VM' : `${rows.length} VMs`;
    return `${many} in ${durationText(this.#total)}: ${ends.length === 0 ? 'nothing happened' : ends.join(', ')}`;
  }

  #rows(top: number): readonly Row[] {
    const { pad, bar, caption } = this.#density;
    let y = top;
    return this.#tracks.map((track) => {
      const captioned = track.bars.some(({ caption: text, transfer }) => text !== '' || transfer.length > 1);
      const height = 2 * pad + bar + (captioned ? caption : 0);
      const row = { ...track, top: y, height, y: y + pad };
      y += height;
      return row;
    });
  }

  #background(row: Row, index: number): string {
    if (index % 2 === 1) return '';
    return element('rect', {
      class: 'band',
      x: MARGIN - 8,
      y: row.top,
      width: WIDTH - 2 * MARGIN + 16,
      height: row.height,
      rx: 4,
      fill: '#f6f8fa',
    });
  }

  #axis(y: number, plot: { readonly top: number; readonly bottom: number; readonly repeated: boolean }): string {
    const marks = ticks(this.#total, 10).map(({ at, label }) => {
      const x = this.#x(this.#history.from + at);
      const text = (where: number) =>
        textElement(label, { class: 'dim', x, y: where, 'font-size': 11, 'text-anchor': 'middle' });
      const line = element('path', {
        class: 'grid',
        d: `M${coordinate(x)} ${coordinate(plot.top)}V${coordinate(plot.bottom)}`,
        stroke: '#d1d9e0',
      });
      return line + text(y) + (plot.repeated ? text(plot.bottom + 16) : '');
    });
    return element('g', {}, marks.join(''));
  }

  #row(row: Row): string {
    const { name, roomy, bar } = this.#density;
    const baseline = row.y + bar / 2 + name * 0.36;
    const label = fitText(row.vm.name, this.#left - MARGIN - 12, name) ?? '';
    const alarm = row.ending.kind === 'failed' ? 'alarm' : 'dim';
    return element(
      'g',
      {},
      [
        textElement(label, { x: this.#left - 12, y: baseline, 'font-size': name, 'text-anchor': 'end' }),
        ...row.bars.map((one) => this.#bar(one, row)),
        ...(roomy ? this.#captions(row) : []),
        textElement(row.ending.words, {
          class: alarm,
          x: WIDTH - MARGIN,
          y: baseline,
          'font-size': roomy ? 12 : 10,
          'text-anchor': 'end',
        }),
      ].join(''),
    );
  }

  #bar(bar: Bar, row: Row): string {
    const { roomy, bar: height } = this.#density;
    const x = this.#x(bar.from);
    // Two that follow each other are told apart by the gap between them.
    const width = Math.max(
      NARROWEST,
      this.#x(bar.to) - x - (bar.meaning === 'step' || bar.meaning === 'failed' ? 1 : 0),
    );
    const label = roomy && bar.label !== '' ? fitText(bar.label, width - 8, 11) : null;
    const onBar = bar.meaning === 'waiting' ? {} : { class: 'on' };
    const plate = bar.meaning === 'waiting' && label !== null ? this.#plate(label, { x: x + 3, y: row.y }) : '';
    return element(
      'g',
      {},
      [
        element('title', {}, escapeMarkup(bar.tip)),
        // The stage does not shine through the stripes: nothing is done.
        ...(bar.meaning === 'waiting' ? [element('rect', { class: 'page', x, y: row.y, width, height })] : []),
        element('rect', { class: bar.meaning, x, y: row.y, width, height, rx: width > 6 ? 3 : undefined }),
        plate,
        label === null ? '' : textElement(label, { ...onBar, x: x + 5, y: row.y + height / 2 + 4, 'font-size': 11 }),
      ].join(''),
    );
  }

  /** Words on stripes are read on a plate of the page's colour. */
  #plate(label: string, at: { readonly x: number; readonly y: number }): string {
    return element('rect', {
      class: 'page',
      x: at.x,
      y: at.y + 3,
      width: textWidth(label, 11) + 6,
      height: this.#density.bar - 6,
      rx: 2,
    });
  }

  #captions(row: Row): readonly string[] {
    const y = row.y + this.#density.bar + 2;
    const captioned = row.bars.filter(({ caption, transfer }) => caption !== '' || transfer.length > 1);
    return captioned.map((bar, i) => {
      const next = captioned[i + 1];
      const hasRate = bar.transfer.length > 1;
      // The words stand beside the area of the rate, not in it.
      const x = this.#x(hasRate ? bar.to : bar.from) + (hasRate ? 6 : 2);
      const room = (next === undefined ? this.#right + ENDING_WIDTH : this.#x(next.from)) - x - 4;
      const text = fitText(bar.caption, room, 10.5);
      return [
        hasRate ? this.#rate(bar, y) : '',
        text === null || text === '' ? '' : textElement(text, { class: 'dim', x, y: y + 11, 'font-size': 10.5 }),
      ].join('');
    });
  }

  /** How fast a download was over its time, as an area below its bar. */
  #rate(bar: Bar, y: number): string {
    const [from, to] = [this.#x(bar.from), this.#x(bar.to)];
    const points = rates(bar.transfer, Math.max(2, Math.min(60, Math.floor((to - from) / 4))));
    const top = Math.max(...points.map(({ rate }) => rate), Number.EPSILON);
    const height = this.#density.caption - 2;
    const line = points.map(
      ({ at, rate }) => `${coordinate(this.#x(at))} ${coordinate(y + height * (1 - Math.max(0, rate) / top))}`,
    );
    if (line.length < 2) return '';
    const [left, right] = [points[0]?.at ?? 0, points.at(-1)?.at ?? 0].map((at) => coordinate(this.#x(at)));
    return element('path', {
      class: 'rate',
      d: `M${left} ${coordinate(y + height)}L${line.join('L')}L${right} ${coordinate(y + height)}Z`,
    });
  }

  /** Of many VMs only what they declare, and of many lines none: they would hide what they explain. */
  #shownLinks(): readonly Link[] {
    const links = linksOf(this.#history.vms).filter(({ kind }) => this.#density.roomy || kind === 'dependency');
    return links.length > MOST_LINKS ? [] : links;
  }

  #links(rows: readonly Row[], links: readonly Link[]): string {
    const byName = new Map(rows.map((row) => [row.vm.name, row]));
    return links.map((link) => this.#link(link, byName)).join('');
  }

  #link({ kind, from, to }: Link, rows: ReadonlyMap<string, Row>): string {
    const [a, b] = [rows.get(from.vm), rows.get(to.vm)];
    if (a === undefined || b === undefined) return '';
    const down = b.top > a.top;
    const { bar } = this.#density;
    const start = { x: this.#x(from.time), y: down ? a.y + bar : a.y };
    const end = { x: this.#x(to.time), y: down ? b.y - 1 : b.y + bar + 1 };
    const bend = (end.y - start.y) / 2;
    const curve = `M${coordinate(start.x)} ${coordinate(start.y)}C${coordinate(start.x)} ${coordinate(start.y + bend)} ${coordinate(end.x)} ${coordinate(end.y - bend)} ${coordinate(end.x)} ${coordinate(end.y)}`;
    const [back, half] = [down ? -6 : 6, 3.5];
    const tip = `M${coordinate(end.x)} ${coordinate(end.y)}l${-half} ${back}h${2 * half}z`;
    const words =
      kind === 'dependency' ? `${to.vm} waited for ${from.vm}` : `${to.vm} waited until ${from.vm} had booted`;
    return element(
      'g',
      {},
      [
        element('title', {}, escapeMarkup(words)),
        element('path', { class: linkClass(kind), d: curve }),
        element('path', { class: 'tip', d: tip }),
      ].join(''),
    );
  }

  /** Where a row broke off. */
  #mark({ ending, y }: Row): string {
    if (ending.kind !== 'failed' && ending.kind !== 'interrupted') return '';
    const radius = this.#density.roomy ? 7 : 4.5;
    return mark(ending.kind, { x: this.#x(ending.at), y: y + this.#density.bar / 2, radius });
  }

  /** Why VMs failed, and what was said about the host. */
  #foot(rows: readonly Row[], top: number): { readonly markup: string; readonly bottom: number } {
    const failed = rows.filter(({ ending }) => ending.kind === 'failed');
    const lines: { readonly text: string; readonly class: string; readonly indent: number }[] = [];
    for (const { vm } of failed.slice(0, MOST_FAILURES)) {
      for (const [i, text] of wrapText(failureText(vm), { columns: 165, most: 3 }).entries()) {
        lines.push({ text, class: i === 0 ? 'alarm' : '', indent: i === 0 ? 0 : 16 });
      }
    }
    if (failed.length > MOST_FAILURES)
      lines.push({ text: `and ${failed.length - MOST_FAILURES} more failed`, class: 'alarm', indent: 0 });
    for (const note of this.#history.notes) {
      for (const [i, text] of wrapText(`note: ${note}`, { columns: 165, most: 3 }).entries()) {
        lines.push({ text, class: 'dim', indent: i === 0 ? 0 : 16 });
      }
    }
    const markup = lines.map(({ text, class: name, indent }, i) =>
      textElement(text, {
        class: name === '' ? undefined : name,
        x: MARGIN + indent,
        y: top + 26 + i * 18,
        'font-size': 12,
      }),
    );
    return { markup: markup.join('\n'), bottom: lines.length === 0 ? top : top + 12 + lines.length * 18 };
  }
}

/** Most messages name their VM. */
function failureText({ name, stages, failure }: VmHistory): string {
  const message = failure?.message ?? '';
  return message.includes(`"${name}"`) ? message : `"${name}", ${stages.at(-1)?.step ?? ''}: ${message}`;
}

const HATCH =
  '<defs><pattern id="hatch" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)"><path class="hatch" d="M0 0V6" stroke-width="1.6" stroke-opacity=".55"/></pattern></defs>';
