/**
 * What the bench has to put back: swap areas, devices, cgroups, files, processes. Last in, first out, on success, on
 * failure and on a signal. Every step is synchronous, so that a signal handler can run all of them before the process
 * ends.
 */
export class UndoStack {
  readonly #steps: { readonly what: string; readonly undo: () => void }[] = [];

  add(what: string, undo: () => void): void {
    this.#steps.push({ what, undo });
  }

  /** Runs `body`; whatever it added is undone before this returns. */
  async within<T>(body: () => Promise<T>): Promise<T> {
    const mark = this.#steps.length;
    try {
      return await body();
    } finally {
      this.#unwind(mark);
    }
  }

  /** Undoes everything now and ends the process when a signal asks for it. */
  onSignals(): void {
    for (const [signal, code] of [
      ['SIGINT', 130],
      ['SIGTERM', 143],
      ['SIGHUP', 129],
    ] as const) {
      process.once(signal, () => {
        this.#unwind(0);
        process.exit(code);
      });
    }
  }

  #unwind(mark: number): void {
    while (this.#steps.length > mark) {
      const step = this.#steps.pop();
      try {
        step?.undo();
      } catch (error) {
        process.stderr.write(
          `bench: could not ${step?.what}: ${error instanceof Error ? error.message : String(error)}\n`,
        );
      }
    }
  }
}

const LONGEST_REASON = 300;

/** A system that this machine cannot measure; the message is the reason that stands in the table. */
export class CannotRun extends Error {}

/**
 * What stands in the table instead of a figure. A failure is no reason to throw the other figures away, but the bench
 * then ends with exit code 1.
 */
export function reasonOf(error: unknown): string {
  if (error instanceof CannotRun) return error.message;
  process.exitCode = 1;
  process.stderr.write(`bench: ${error instanceof Error ? error.stack : String(error)}\n`);
  return `FAILED: ${(error instanceof Error ? error.message : String(error)).replaceAll('\n', ' ').slice(0, LONGEST_REASON)}`;
}

/** Waits without giving way to other events: for undo steps only. */
export function sleepSync(milliseconds: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, milliseconds);
}
