/**
 * The curves as SVG: one scatter plot of a trace, lines of a figure over time per policy. Colours are CSS variables,
 * light and dark.
 */
import type { Trace } from '../src/trace/format.js';
import type { ReplayResult } from './replay.js';

const WIDTH = 720;
const HEIGHT = 280;
const LEFT = 64;
const RIGHT = 28;
const TOP = 30;
const BOTTOM = 40;
/** Points of a scatter plot: more only make it heavier. */
const POINTS = 6000;
const TICKS = 5;
const BUCKETS = 80;

/** Also the order of the legend. Each colour stands out from white and from near black. */
export const COLOURS: Readonly<Record<string, string>> = {
  streams: '#e4572e',
  leap: '#3d7edb',
  'leap-kernel': '#8e6cd1',
  readahead: '#2a9d6f',
  stride: '#b8860b',
  'next-n': '#c2528b',
  none: '#808890',
};

export const STYLE = `
.figure { --ink: #1c2126; --soft: #5d6670; --line: #d9dee3; --ground: #ffffff; background: var(--ground); }
.figure text { fill: var(--soft); font: 11px system-ui, sans-serif; }
.figure .title { fill: var(--ink); font-weight: 600; font-size: 13px; }
.figure .grid { stroke: var(--line); stroke-width: 1; fill: none; }
.figure .dots { stroke-linecap: round; stroke-width: 2; fill: none; opacity: 0.75; }
.figure .curve { stroke-width: 1.8; fill: none; stroke-linejoin: round; }
@media (prefers-color-scheme: dark) { .figure { --ink: #e8ebee; --soft: #a3adb7; --line: #333a42; --ground: #14181c; } }
`;

type Point = readonly [x: number, y: number];

interface Axis {
  readonly most: number;
  readonly label: string;
  readonly shown: (value: number) => string;
}

const escape = (text: string): string =>
  text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;');
const at = (value: number): string => (Math.round(value * 10) / 10).toString();
const xOf = (value: number, axis: Axis): number => LEFT + (value / axis.most) * (WIDTH - LEFT - RIGHT);
const yOf = (value: number, axis: Axis): number => HEIGHT - BOTTOM - (value / axis.most) * (HEIGHT - TOP - BOTTOM);

/** The next of 1, 2, 2.5, 5, 10 times a power of ten. */
function roundUp(value: number): number {
  if (!(value > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return power * ([1, 2, 2.5, 5, 10].find((step) => step * power >= value) ?? 10);
}

function frame(title: string, x: Axis, y: Axis, body: string, alone: boolean): string {
  const ticks: string[] = [];
  for (let i = 0; i <= TICKS; i++) {
    const [across, up] = [(x.most * i) / TICKS, (y.most * i) / TICKS];
    ticks.push(`<path class="grid" d="M${LEFT} ${at(yOf(up, y))}H${WIDTH - RIGHT}"/>`);
    ticks.push(`<text x="${LEFT - 6}" y="${at(yOf(up, y) + 4)}" text-anchor="end">${y.shown(up)}</text>`);
    ticks.push(
      `<text x="${at(xOf(across, x))}" y="${HEIGHT - BOTTOM + 16}" text-anchor="middle">${x.shown(across)}</text>`,
    );
  }
  const style = alone ? `<style>${STYLE}</style><rect width="${WIDTH}" height="${HEIGHT}" fill="var(--ground)"/>` : '';
  return `<svg class="figure" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img" aria-label="${escape(title)}">${style}
<text class="title" x="${LEFT}" y="16">${escape(title)}</text>
${ticks.join('\n')}
<text x="${(LEFT + WIDTH - RIGHT) / 2}" y="${HEIGHT - 6}" text-anchor="middle">${escape(x.label)}</text>
<text x="14" y="${(TOP + HEIGHT - BOTTOM) / 2}" text-anchor="middle" transform="rotate(-90 14 ${(TOP + HEIGHT - BOTTOM) / 2})">${escape(y.label)}</text>
${body}
</svg>`;
}

/** A place for each line's name at its right end would collide: the names stand in a row below the title instead. */
function legend(names: readonly string[]): string {
  let x = WIDTH - RIGHT;
  const parts: string[] = [];
  for (const name of [...names].reverse()) {
    x -= name.length * 6.2 + 24;
    parts.push(
      `<path d="M${at(x)} 12h12" stroke="${COLOURS[name]}" stroke-width="3"/><text x="${at(x + 16)}" y="16">${escape(name)}</text>`,
    );
  }
  return parts.join('\n');
}

const seconds = (mostNs: number): Axis => {
  const [unit, scale] = mostNs >= 1e9 ? ['s', 1e9] : ['ms', 1e6];
  return {
    most: Math.max(1, mostNs),
    label: `time, ${unit}`,
    shown: (value) => Number((value / scale).toPrecision(2)).toString(),
  };
};

/** How far the program has come, in accesses: the same for all policies, which time is not. */
const progress = (curves: readonly (readonly Point[])[]): Axis => ({
  most: Math.max(1, ...curves.map((points) => points.at(-1)?.[0] ?? 0)),
  label: 'accesses made',
  shown: (value) => Math.round(value).toLocaleString('en-US'),
});

/** Which page was touched when; a colour a thread. */
export function scatter(name: string, trace: Trace, alone = false): string {
  const every = Math.max(1, Math.ceil(trace.length / POINTS));
  const x = seconds(trace.time[trace.length - 1]);
  // Pages that nobody touched take no room.
  const touched = [...new Set(trace.page)].sort((one, other) => one - other);
  const rank = new Map(touched.map((page, i) => [page, i]));
  const y: Axis = {
    most: Math.max(1, touched.length - 1),
    label: 'page, of those touched',
    shown: (value) => Math.round(value).toLocaleString('en-US'),
  };
  const dots = new Map<number, string[]>();
  for (let i = 0; i < trace.length; i += every) {
    const thread = trace.thread[i];
    const list = dots.get(thread) ?? [];
    dots.set(thread, list);
    list.push(`M${at(xOf(trace.time[i], x))} ${at(yOf(rank.get(trace.page[i]) ?? 0, y))}h0`);
  }
  const colours = Object.values(COLOURS);
  const body = [...dots.values()]
    .map((list, i) => `<path class="dots" stroke="${colours[(i + 1) % colours.length]}" d="${list.join('')}"/>`)
    .join('\n');
  return frame(`${name}: the pages touched`, x, y, body, alone);
}

/** Stall so far, a line a policy. */
export function stallCurves(local: number, results: readonly ReplayResult[], alone = false): string {
  const shown = results.filter((result) => result.local === local);
  const x = progress(shown.map(({ stalls }) => stalls));
  const y: Axis = {
    most: roundUp(Math.max(...shown.map(({ stallNs }) => stallNs)) / 1e6) * 1e6,
    label: 'stall so far, ms',
    shown: (value) => Math.round(value / 1e6).toLocaleString('en-US'),
  };
  return lines(`${local * 100} % local: stall`, x, y, shown, ({ stalls }) => [[0, 0], ...stalls], alone);
}

/** Pages planned at a fault, the mean of each stretch of the trace, a line a policy. */
export function windowCurves(local: number, results: readonly ReplayResult[], alone = false): string {
  const shown = results.filter((result) => result.local === local && result.windows.length > 0);
  const x = progress(shown.map(({ windows }) => windows));
  const means = new Map(shown.map((result) => [result, mean(result.windows, x.most)]));
  const most = Math.max(1, ...[...means.values()].flatMap((points) => points.map(([, value]) => value)));
  const y: Axis = {
    most: roundUp(most),
    label: 'pages a plan',
    shown: (value) => Number(value.toPrecision(2)).toString(),
  };
  return lines(`${local * 100} % local: windows`, x, y, shown, (result) => means.get(result) ?? [], alone);
}

function mean(points: readonly Point[], most: number): Point[] {
  const sums = new Float64Array(BUCKETS);
  const counts = new Float64Array(BUCKETS);
  for (const [time, value] of points) {
    const bucket = Math.min(BUCKETS - 1, Math.floor((time / most) * BUCKETS));
    sums[bucket] += value;
    counts[bucket]++;
  }
  return [...sums].flatMap((sum, bucket): Point[] =>
    counts[bucket] === 0 ? [] : [[((bucket + 0.5) * most) / BUCKETS, sum / counts[bucket]]],
  );
}

function lines(
  title: string,
  x: Axis,
  y: Axis,
  results: readonly ReplayResult[],
  pointsOf: (result: ReplayResult) => readonly Point[],
  alone: boolean,
): string {
  const order = Object.keys(COLOURS);
  const sorted = [...results].sort((a, b) => order.indexOf(a.policy) - order.indexOf(b.policy));
  // Ours is drawn last, on top.
  const curves = [...sorted].reverse().map((result) => {
    const path = pointsOf(result).map(
      (point, i) => `${i === 0 ? 'M' : 'L'}${at(xOf(point[0], x))} ${at(yOf(point[1], y))}`,
    );
    return `<path class="curve" stroke="${COLOURS[result.policy]}" d="${path.join('')}"><title>${escape(result.policy)}</title></path>`;
  });
  return frame(title, x, y, `${curves.join('\n')}\n${legend(sorted.map(({ policy }) => policy))}`, alone);
}

export const escapeHtml = escape;
