/** The bench's result: rows of a figure, what it is measured against, and the goal; drawn as tables on a terminal. */
import Table from 'cli-table3';

export interface Figure {
  readonly value: number;
  /** value / against, where there is something to measure against. */
  readonly ratio?: number;
  readonly met?: boolean;
}

export interface Row {
  /** Stable, for tools that compare two JSON files. */
  readonly id: string;
  readonly section: string;
  readonly what: string;
  readonly unit: string;
  readonly leap?: Figure;
  readonly against?: number;
  /** leapd again with less local memory, so that its frames and that memory together stay below the limit. */
  readonly framesInside?: Figure;
  /** The most that the ratio (or, with nothing to measure against, the value) should be. */
  readonly goal?: number;
  /** Why a figure is missing. */
  readonly reason?: string;
}

type Draft = Omit<Row, 'leap' | 'framesInside'> & {
  readonly leap?: number | undefined;
  readonly framesInside?: number | undefined;
};

/** Works out ratios and whether the goal is met. */
export function row({ leap, framesInside, ...rest }: Draft): Row {
  const figure = (value: number): Figure => {
    const ratio = rest.against === undefined ? undefined : value / rest.against;
    const judged = ratio ?? (isRatio(rest) ? undefined : value);
    return {
      value,
      ...(ratio !== undefined && { ratio }),
      ...(rest.goal !== undefined && judged !== undefined && { met: judged <= rest.goal }),
    };
  };
  return {
    ...rest,
    ...(leap !== undefined && { leap: figure(leap) }),
    ...(framesInside !== undefined && { framesInside: figure(framesInside) }),
  };
}

/** What leapd costs by itself has nothing to be measured against: there the goal is a limit on the value. */
const isRatio = (draft: { readonly id: string }): boolean => !draft.id.startsWith('own.');

const number = (value: number | undefined): string => {
  if (value === undefined || Number.isNaN(value)) return '-';
  return value >= 1000
    ? Math.round(value).toLocaleString('en-US')
    : value >= 100
      ? value.toFixed(0)
      : value >= 10
        ? value.toFixed(1)
        : value.toFixed(2);
};

const verdict = (figure: Figure | undefined): string => (figure?.met === undefined ? '-' : figure.met ? 'yes' : 'NO');

export function draw(rows: readonly Row[]): string {
  const sections = [...new Set(rows.map((entry) => entry.section))];
  return sections
    .map((section) =>
      drawSection(
        section,
        rows.filter((entry) => entry.section === section),
      ),
    )
    .join('\n\n');
}

function drawSection(section: string, rows: readonly Row[]): string {
  const compared = rows.some(isRatio);
  const inside = rows.some((entry) => entry.framesInside !== undefined);
  const head = ['', 'unit', 'leap', ...(compared ? ['against', 'ratio'] : []), 'goal', 'met'];
  if (inside) head.push('frames inside', 'ratio', 'met');
  const table = new Table({
    head,
    style: { head: [], border: [] },
    colAligns: head.map((_, column) => (column < 2 ? 'left' : 'right')),
  });
  for (const entry of rows) {
    const cells = [entry.what, entry.unit, number(entry.leap?.value)];
    if (compared) cells.push(number(entry.against), number(entry.leap?.ratio));
    cells.push(
      entry.goal === undefined ? '-' : `<= ${number(entry.goal)}${isRatio(entry) ? 'x' : ''}`,
      verdict(entry.leap),
    );
    if (inside)
      cells.push(number(entry.framesInside?.value), number(entry.framesInside?.ratio), verdict(entry.framesInside));
    table.push(cells);
  }
  const reasons = [...new Set(rows.flatMap((entry) => (entry.reason === undefined ? [] : [entry.reason])))];
  return [section, table.toString(), ...reasons.map((reason) => `  not measured: ${reason}`)].join('\n');
}
