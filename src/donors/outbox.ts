/**
 * Messages to one donor that wait: for a send buffer, or because more a second would look like a flood to it. In order,
 * each is sent once.
 */

/** A donor ends a session with more than 1000 in any second; two of our seconds may fall into one of its. */
const MOST_A_SECOND = 400;
/** One a chunk, and then some. */
const MOST_WAITING = 1 << 16;

export class Outbox {
  private readonly waiting: Uint8Array[] = [];
  private since = -Infinity;
  private sent = 0;

  /** @param post false: there is no send buffer now */
  constructor(private readonly post: (message: Uint8Array) => boolean) {}

  /** @returns false: too many wait  @param now ms */
  add(message: Uint8Array, now: number): boolean {
    if (this.waiting.length >= MOST_WAITING) return false;
    this.waiting.push(message);
    this.flush(now);
    return true;
  }

  flush(now: number): void {
    if (now - this.since >= 1000) {
      this.since = now;
      this.sent = 0;
    }
    let at = 0;
    while (at < this.waiting.length && this.sent < MOST_A_SECOND && this.post(this.waiting[at])) {
      at++;
      this.sent++;
    }
    if (at > 0) this.waiting.splice(0, at);
  }

  clear(): void {
    this.waiting.length = 0;
  }
}
