/**
 * Whether the donors have room for all that is wanted of them. Said when they have not had for a while, and when they
 * have it again.
 */

/** A donor that has just been started, or given chunks back, has room in a moment. */
const PATIENCE_MS = 5000;

export class Shortage {
  private since: number | undefined;
  private isSaid = false;
  private hasEased = false;

  constructor(private readonly say: (level: 'info' | 'warn', message: string) => void) {}

  /** @param bytes that no donor has room for  @param now ms */
  look(bytes: number, now: number): void {
    if (bytes === 0) return this.end();
    this.since ??= now;
    if (this.isSaid || now - this.since < PATIENCE_MS) return;
    this.isSaid = true;
    this.hasEased = false;
    this.say('warn', `donors have no room for ${Math.ceil(bytes / 2 ** 20)} more MiB: those pages go to the swap file`);
  }

  /** A donor has given a chunk. */
  eased(): void {
    this.hasEased = true;
  }

  /** Without a chunk given it is only that nobody is asked any more: the full donor has gone, for one. */
  private end(): void {
    if (this.isSaid && this.hasEased) this.say('info', 'donors have room again for all pages');
    this.since = undefined;
    this.isSaid = false;
  }
}
