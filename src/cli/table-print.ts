/** How leapctl shows what leapd answered, for people. */
import Table from 'cli-table3';
import type { Json } from './protocol.js';
import { formatNs, formatPages } from './size.js';

type Row = readonly [string, string];

/**
 * @param head titles of the columns; none: the table has no head  @param wrapLast columns of text that the last column
 * may take
 */
export function printTable(rows: readonly (readonly string[])[], head?: readonly string[], wrapLast?: number): void {
  const table = new Table({ ...(head && { head: [...head] }), style: { head: [], border: [], compact: true } });
  for (const row of rows)
    table.push(row.map((cell, at) => (wrapLast !== undefined && at === row.length - 1 ? wrap(cell, wrapLast) : cell)));
  process.stdout.write(`${table.toString()}\n`);
}

function wrap(text: string, width: number): string {
  const lines = text.split('\n').flatMap((line) => {
    const wrapped: string[] = [];
    for (const word of line.split(' ')) {
      const last = wrapped.at(-1);
      if (last === undefined || last.length + 1 + word.length > width) wrapped.push(word);
      else wrapped[wrapped.length - 1] = `${last} ${word}`;
    }
    return wrapped;
  });
  return lines.join('\n');
}

/** Any flat object of counters as two columns; amounts of pages also in bytes, times in words. */
export function printObject(object: Json): void {
  printTable(rowsOf(object));
}

export function rowsOf(value: Json, prefix = ''): Row[] {
  if (typeof value !== 'object' || value === null) return [];
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
