/**
 * Writes the command records of the next turn; native/base/layout.h says what each holds. Neighbours are joined: a page
 * (slot, frame) that follows the last record's in every number it has lengthens that record instead of starting one; so
 * does one that precedes it, in a stream that goes down.
 */
import { BATCH_PAGES, Command, COMMAND_WORDS } from './layout.js';

export class CommandWriter {
  words = 0;

  constructor(private readonly buffer: Int32Array) {}

  /** Pages of all records. */
  get pages(): number {
    let pages = 0;
    for (let at = 3; at < this.words; at += COMMAND_WORDS) pages += this.buffer[at];
    return pages;
  }

  /** Records that still fit. */
  get room(): number {
    return ((this.buffer.length - this.words) / COMMAND_WORDS) | 0;
  }

  /**
   * @param first page or slot  @param frame frame, or 0 for commands without one
   * @param joinUp, joinDown false: not joined to a record that ends before it, that begins behind it (the edge of a
   * region or chunk is between them)
   * @throws Error when the buffer is full: callers look at `room` first.
   */
  put(command: number, first: number, frame: number, joinUp: boolean, joinDown: boolean): void {
    const buffer = this.buffer;
    const last = this.words - COMMAND_WORDS;
    if (last >= 0 && buffer[last] === command && buffer[last + 3] < BATCH_PAGES) {
      const count = buffer[last + 3];
      const hasNoFrame = command === Command.zero;
      if (joinUp && buffer[last + 1] + count === first && (hasNoFrame || buffer[last + 2] + count === frame)) {
        buffer[last + 3] = count + 1;
        return;
      }
      if (joinDown && buffer[last + 1] === first + 1 && (hasNoFrame || buffer[last + 2] === frame + 1)) {
        buffer[last + 1] = first;
        buffer[last + 2] = frame;
        buffer[last + 3] = count + 1;
        return;
      }
    }
    const at = this.words;
    if (at + COMMAND_WORDS > buffer.length) throw new Error('command buffer overrun');
    buffer[at] = command;
    buffer[at + 1] = first;
    buffer[at + 2] = frame;
    buffer[at + 3] = 1;
    this.words = at + COMMAND_WORDS;
  }
}
