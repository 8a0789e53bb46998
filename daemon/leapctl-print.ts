/** How leapctl shows what leapd answered, for people. */
import Table from 'cli-table3';
import type { Json } from './protocol.js';
import { formatNs, formatPages } from './size.js';

type Row = readonly [string, string];

export function printTable(rows: readonly (readonly string[])[], head: readonly string[]): void {
  const table = new Table({ head: [...head], style: { head: [], border: [], compact: true } });
  for (const row of rows) table.push([...row]);
  process.stdout.write(`${table.toString()}\n`);
}

/** Any flat object of counters as two columns; amounts of pages also in bytes, times in words. */
export function printObject(object: Json): void {
  printTable(rowsOf(object), ['', '']);
}

export function rowsOf(value: Json, prefix = ''): Row[] {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return [];
  return Object.entries(value as { readonly [key: string]: Json }).flatMap(([key, entry]): Row[] => {
    const name = prefix === '' ? key : `${prefix}.${key}`;
    if (typeof entry === 'object' && entry !== null) return rowsOf(entry, name);
    return [[name, describe(name, entry)]];
  });
}

function describe(name: string, value: Json): string {
  if (typeof value !== 'number') return String(value);
  if (name.endsWith('Pages')) return `${value} (${formatPages(value)})`;
  if (/Ns(\.|$)/.test(name)) return formatNs(value);
  return String(value);
}
