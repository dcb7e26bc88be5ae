/** The lines of source around a finding, with the places in question underlined to the exact character. */
import stringWidth from 'string-width';
import type { Span } from '../model/source.js';
import type { LineIndex } from './line-index.js';

/** A place to underline. */
export interface Mark {
  readonly span: Span;
  readonly text: string | null;
  /** The place of the finding itself, as opposed to another one that has to do with it. */
  readonly primary: boolean;
}

export interface FrameStyle {
  gutter(text: string): string;
  primary(text: string): string;
  secondary(text: string): string;
}

export interface FrameOptions {
  readonly text: string;
  readonly lines: LineIndex;
  /** Columns of the terminal. */
  readonly width: number;
  readonly style: FrameStyle;
}

const TAB_WIDTH = 4;

/**
 * The frame as lines: each line of source that holds the start of a mark, its marks below it, and `...` where lines
 * between are left out. A mark that goes on over several lines is underlined on its first. Empty when there is nothing
 * to see.
 */
export function codeFrame(marks: readonly Mark[], { text, lines, width, style }: FrameOptions): readonly string[] {
  const placed = marks
    .map((mark) => ({ ...mark, line: lines.lineAt(mark.span.start) }))
    .toSorted((a, b) => a.line - b.line || a.span.start - b.span.start);
  const numbers = [...new Set(placed.map((mark) => mark.line))];
  const digits = String(numbers.at(-1) ?? 1).length;
  const gutter = (number: string): string => style.gutter(`${number.padStart(digits + 2)} |`);
  const frame: string[] = [];
  let previous: number | null = null;
  for (const number of numbers) {
    const here = placed.filter((mark) => mark.line === number);
    const line = lines.span(number);
    if (text.slice(line.start, line.end).trim() === '') continue;
    if (previous !== null && number > previous + 1) frame.push(style.gutter(`${' '.repeat(digits)}...`));
    previous = number;
    const columns = Math.max(20, width - digits - 5);
    const near = nearby(line, here, columns);
    const view = cutAround(layOut(withoutSecrets(text.slice(near.start, near.end))), here, {
      start: near.start,
      width: columns,
    });
    frame.push(`${gutter(String(number))} ${view.text}`.trimEnd());
    for (const [index, mark] of here.entries()) {
      const { column, length } = view.underlines[index] ?? { column: 0, length: 1 };
      const underlined = (mark.primary ? '^' : '-').repeat(length);
      const words = mark.text === null ? underlined : `${underlined} ${printable(mark.text)}`;
      const painted = mark.primary ? style.primary(words) : style.secondary(words);
      frame.push(`${gutter('')} ${' '.repeat(column)}${painted}`);
    }
  }
  return frame;
}

/** A line with stars for the password and the query of each URL in it, for frames end up in the logs of CI. */
function withoutSecrets(line: string): string {
  const stars = (_all: string, before: string, secret: string): string => before + '*'.repeat(secret.length);
  return line
    .replace(/(:\/\/[^\s"'/@:?#]*:)([^\s"'/@]+)(?=@)/g, stars)
    .replace(/(:\/\/[^\s"'?#]+\?)([^\s"'#]+)/g, stars);
}

/** As much of a line as can come into view around its focus: laying out a line of a megabyte would take minutes. */
function nearby(line: Span, marks: readonly Mark[], columns: number): Span {
  const focus = marks.find((mark) => mark.primary) ?? marks[0];
  const at = focus?.span.start ?? line.start;
  const reach = columns * 4;
  return { start: Math.max(line.start, at - reach), end: Math.min(line.end, at + reach) };
}

/** The text with everything that a terminal would obey, or hide, shown as U+FFFD. */
export function printable(text: string): string {
  return text.replace(UNPRINTABLE, '\uFFFD');
}

// Control characters, line separators, and the marks that turn the direction of text around.
const UNPRINTABLE = /[\p{Cc}\p{Zl}\p{Zp}\p{Cs}\u061C\u200E\u200F\u202A-\u202E\u2066-\u2069\uFEFF]/gu;

/** One character as it is seen: where it is in the line, what stands for it, and how many columns it takes. */
interface Cell {
  readonly offset: number;
  readonly end: number;
  readonly text: string;
  readonly column: number;
  readonly width: number;
}

const segmenter = new Intl.Segmenter('en', { granularity: 'grapheme' });

function layOut(line: string): readonly Cell[] {
  const cells: Cell[] = [];
  const widthOf = widthsOf();
  let column = 0;
  for (const { segment, index } of segmenter.segment(line)) {
    const isTab = segment === '\t';
    const text = isTab ? ' '.repeat(TAB_WIDTH - (column % TAB_WIDTH)) : printable(segment);
    const width = isTab ? text.length : widthOf(text);
    cells.push({ offset: index, end: index + segment.length, text, column, width });
    column += width;
  }
  return cells;
}

/** Columns of a character, found out once for each: string-width makes a regular expression of 15 kB every time. */
function widthsOf(): (character: string) => number {
  const known = new Map<string, number>();
  return (character) => {
    const width = known.get(character) ?? stringWidth(character);
    known.set(character, width);
    return width;
  };
}

interface View {
  readonly text: string;
  /** Of each mark, in their order. */
  readonly underlines: readonly { readonly column: number; readonly length: number }[];
}

/** The part of a line that fits, around the primary mark, or else the first. */
function cutAround(
  cells: readonly Cell[],
  marks: readonly Mark[],
  { start, width }: { readonly start: number; readonly width: number },
): View {
  const total = cells.reduce((sum, cell) => sum + cell.width, 0);
  const ranges = marks.map(({ span }) => columnsOf(cells, { start: span.start - start, end: span.end - start }));
  const focus = ranges[
    Math.max(
      0,
      marks.findIndex((mark) => mark.primary),
    )
  ] ?? { start: 0, end: 0 };
  if (total <= width)
    return { text: join(cells), underlines: ranges.map((range) => underline(range, { shift: 0, limit: total })) };
  const left = focus.end < width ? 0 : Math.max(0, Math.min(focus.start - Math.floor(width / 3), total - width + 1));
  const before = left === 0 ? '' : '…';
  const visible = cells.filter((cell) => cell.column >= left && cell.column + cell.width <= left + width - 2);
  const from = visible[0]?.column ?? 0;
  const last = visible.at(-1);
  const end = last === undefined ? from : last.column + last.width;
  return {
    text: `${before}${join(visible)}${end < total ? '…' : ''}`,
    underlines: ranges.map((range) =>
      underline(
        { start: Math.max(range.start, from), end: Math.min(range.end, end) },
        { shift: before.length - from, limit: end },
      ),
    ),
  };
}

function columnsOf(cells: readonly Cell[], span: Span): Span {
  const first = cells.find((cell) => cell.end > span.start);
  const last = cells.findLast((cell) => cell.offset < span.end);
  const lineEnd = (cells.at(-1)?.column ?? 0) + (cells.at(-1)?.width ?? 0);
  const start = first?.column ?? lineEnd;
  return { start, end: last === undefined ? start : Math.max(start, last.column + last.width) };
}

function underline(
  { start, end }: Span,
  { shift, limit }: { readonly shift: number; readonly limit: number },
): { readonly column: number; readonly length: number } {
  const column = Math.min(start, limit) + shift;
  return { column, length: Math.max(1, end - start) };
}

function join(cells: readonly Cell[]): string {
  return cells.map((cell) => cell.text).join('');
}
