// One picture for a group: a bar for each ratio, with its spread, on an axis on which the reference is 1.
import { amount } from './report.mjs';

const WIDTH = 900;
const NAMES = 300;
const FIGURES = 250;
const ROW = 38;
const FONT = 'system-ui,-apple-system,"Segoe UI",Roboto,"Liberation Sans","DejaVu Sans",Arial,sans-serif';
const LIGHT = {
  page: '#ffffff',
  ink: '#1f2328',
  dim: '#59636e',
  grid: '#d1d9e0',
  met: '#2da44e',
  missed: '#cf222e',
  none: '#4493f8',
};
const DARK = {
  page: '#0d1117',
  ink: '#e6edf3',
  dim: '#9198a1',
  grid: '#30363d',
  met: '#3fb950',
  missed: '#f85149',
  none: '#4493f8',
};

/** With ratios beyond this an axis of equal steps would show the others as nothing. */
const MOST_EVEN = 6;

/**
 * Where a ratio stands, from 0 to 1, and the ticks. Even steps from 0; or, for ratios far apart, equal steps for equal
 * factors, and then the bars begin at the reference: to the right what takes longer, to the left what is faster.
 */
function axisFor(rows) {
  const ratios = rows.flatMap(({ ratio, ratioSpread }) => [ratio, ...ratioSpread]);
  const limits = rows.flatMap(({ bar, ratio }) => (bar === null || bar.limit > 3 * ratio ? [] : [bar.limit]));
  const most = 1.08 * Math.max(1.2, ...ratios, ...limits);
  if (most <= MOST_EVEN) {
    const size = [0.1, 0.2, 0.25, 0.5, 1].find((step) => most / step <= 8) ?? 1;
    const ticks = Array.from({ length: Math.floor(most / size) + 1 }, (_, i) => i * size);
    return { place: (ratio) => Math.min(1, ratio / most), ticks, base: 0, most };
  }
  const least = Math.min(0.8, ...ratios) / 1.1;
  const length = Math.log(most / least);
  const decades = [0.001, 0.01, 0.1, 1, 10, 100, 1000].flatMap((power) => [power, 2 * power, 5 * power]);
  return {
    place: (ratio) => Math.min(1, Math.max(0, Math.log(ratio / least) / length)),
    ticks: decades.filter((tick) => tick >= least && tick <= most),
    base: 1,
    most,
  };
}

export function chart({ title, about, host, rows }) {
  const { place, ticks, base, most } = axisFor(rows);
  const plot = WIDTH - NAMES - FIGURES - 40;
  const left = 20 + NAMES;
  const x = (ratio) => (left + place(ratio) * plot).toFixed(1);
  const top = 96;
  const bottom = top + rows.length * ROW;
  const height = bottom + 56;
  const parts = [
    `<rect class="page" width="${WIDTH}" height="${height}"/>`,
    text(title, { x: 20, y: 32, size: 18, weight: 600 }),
    ...wrap(about, 125).map((line, i) => text(line, { x: 20, y: 52 + i * 16, size: 12, kind: 'dim' })),
  ];
  for (const at of ticks) {
    parts.push(`<path class="grid" d="M${x(at)} ${top}V${bottom}"/>`);
    parts.push(
      text(String(Number(at.toPrecision(3))), { x: x(at), y: bottom + 16, size: 11, kind: 'dim', anchor: 'middle' }),
    );
  }
  for (const [i, one] of rows.entries()) parts.push(rowOf(one, { y: top + i * ROW, x, base, most }));
  parts.push(`<path class="one" d="M${x(1)} ${top - 4}V${bottom + 4}"/>`);
  parts.push(
    text('times its reference', { x: left + plot / 2, y: bottom + 34, size: 11, kind: 'dim', anchor: 'middle' }),
  );
  parts.push(text(host, { x: WIDTH - 20, y: bottom + 34, size: 11, kind: 'dim', anchor: 'end' }));
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${height}" viewBox="0 0 ${WIDTH} ${height}" role="img">
<title>${escape(`${title}: ${about}`)}</title>
<style>
text{font-family:${FONT}}.grid,.one,.spread,.limit{fill:none}.spread{stroke-width:1.5}.one{stroke-width:1.5;stroke-dasharray:4 3}.limit{stroke-width:2}
${theme(LIGHT)}
@media (prefers-color-scheme:dark){${theme(DARK)}}
</style>
${parts.join('\n')}
</svg>
`;
}

/** One row: its name and reference, its bar with the spread and the limit, and the figures. */
function rowOf({ name, unit, value, reference, ratio, ratioSpread, bar }, { y, x, base, most }) {
  const kind = bar === null ? 'none' : bar.met ? 'met' : 'missed';
  const middle = y + 17;
  const [near, far] = [Number(x(base)), Number(x(ratio))].toSorted((a, b) => a - b);
  const width = Math.max(1, far - near).toFixed(1);
  const [from, to] = ratioSpread.map(x);
  const verdict = bar === null ? '' : `${bar.words}${bar.met ? '' : ', missed'}`;
  return [
    text(cut(name, 46), { x: 20, y: middle - 1, size: 13 }),
    text(cut(`against ${reference.name}`, 56), { x: 20, y: middle + 13, size: 10.5, kind: 'dim' }),
    `<rect class="${kind}" x="${near}" y="${middle - 9}" width="${width}" height="16" rx="2"/>`,
    `<path class="spread" d="M${from} ${middle - 1}H${to}M${from} ${middle - 5}v8M${to} ${middle - 5}v8"/>`,
    bar === null || bar.limit > most ? '' : `<path class="limit" d="M${x(bar.limit)} ${middle - 12}v22"/>`,
    text(`${ratio.toFixed(2)}×`, { x: WIDTH - FIGURES, y: middle - 1, size: 13, weight: 600 }),
    text(`${amount(value, unit)} to ${amount(reference.value, unit)}`, {
      x: WIDTH - FIGURES + 62,
      y: middle - 1,
      size: 12,
      kind: 'dim',
    }),
    text(cut(verdict, 44), {
      x: WIDTH - FIGURES,
      y: middle + 13,
      size: 10.5,
      kind: kind === 'missed' ? 'alarm' : 'dim',
    }),
  ].join('');
}

function theme({ page, ink, dim, grid, met, missed, none }) {
  return `.page{fill:${page}}text{fill:${ink}}.dim{fill:${dim}}.alarm{fill:${missed}}.grid{stroke:${grid}}.one{stroke:${dim}}.spread{stroke:${ink}}.limit{stroke:${ink}}.met{fill:${met}}.missed{fill:${missed}}.none{fill:${none}}`;
}

function text(words, { x, y, size, weight, kind, anchor }) {
  const more = [weight && ` font-weight="${weight}"`, kind && ` class="${kind}"`, anchor && ` text-anchor="${anchor}"`];
  return `<text x="${x}" y="${y}" font-size="${size}"${more.filter(Boolean).join('')}>${escape(words)}</text>`;
}

function wrap(words, columns) {
  return words.match(new RegExp(`.{1,${columns}}(?:\\s|$)`, 'g')) ?? [];
}

function cut(words, length) {
  return words.length <= length ? words : `${words.slice(0, length - 1)}…`;
}

function escape(words) {
  return words.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');
}
