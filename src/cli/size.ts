/** Amounts of memory as people write them: "512M", "2G", "1.5g", "65536", "50%". */
import { PAGE_SIZE } from '../core/types.js';

export type Size =
  { readonly kind: 'bytes'; readonly bytes: number } | { readonly kind: 'percent'; readonly percent: number };

const unitBytes: Readonly<Record<string, number>> = { '': 1, k: 2 ** 10, m: 2 ** 20, g: 2 ** 30, t: 2 ** 40 };
const pattern = /^(\d+(?:\.\d+)?)\s*(%|([kmgt]?)(?:i?b)?)$/i;

/** @returns undefined when the text is no size. */
export function parseSize(text: string): Size | undefined {
  const match = pattern.exec(text.trim());
  if (!match) return undefined;
  const amount = Number(match[1]);
  if (match[2] === '%') return { kind: 'percent', percent: amount };
  const bytes = Math.floor(amount * (unitBytes[(match[3] ?? '').toLowerCase()] ?? Number.NaN));
  return Number.isSafeInteger(bytes) ? { kind: 'bytes', bytes } : undefined;
}

export const bytesToPages = (bytes: number): number => Math.floor(bytes / PAGE_SIZE);
export const pagesToBytes = (pages: number): number => pages * PAGE_SIZE;

/** "512.0 MiB", "37 B". */
export function formatBytes(bytes: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let value = bytes;
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit++;
  }
  return unit === 0 ? `${value} B` : `${value.toFixed(1)} ${units[unit]}`;
}

export const formatPages = (pages: number): string => formatBytes(pagesToBytes(pages));

/** "950 ns", "12.3 us", "4.56 ms", "1.23 s". */
export function formatNs(ns: number): string {
  if (ns < 1e3) return `${Math.round(ns)} ns`;
  if (ns < 1e6) return `${(ns / 1e3).toFixed(1)} us`;
  if (ns < 1e9) return `${(ns / 1e6).toFixed(2)} ms`;
  return `${(ns / 1e9).toFixed(2)} s`;
}
