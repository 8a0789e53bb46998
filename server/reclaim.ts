/**
 * Getting lent chunks back: EVICT to all who have any, ACTIVITY from them, STOP for the least active, DONE. Pure. Each of the two waits has a
 * deadline, and whoever misses it is cut off, which brings all its chunks back.
 */
import type { ChunkActivity } from '../src/wire/messages.js';
import type { ClientSession } from './client-session.js';

/** For ACTIVITY, and then for DONE. */
export const ACTIVITY_MS = 5000;
export const DONE_MS = 10_000;

export class Reclaim<Client extends ClientSession> {
  /** Clients whose ACTIVITY is to come; undefined when the choice has been made. */
  private waiting: Set<Client> | undefined;
  private readonly answers: { readonly client: Client; readonly donorChunk: number; readonly activity: number }[] = [];
  private readonly stopped = new Map<Client, ReadonlySet<number>>();
  private deadline: number;

  /**
   * @param wanted how many chunks
   * @param cutOff takes a client's connection, and all its chunks, away
   */
  constructor(
    clients: Iterable<Client>,
    private wanted: number,
    now: number,
    private readonly cutOff: (client: Client, reason: string) => void,
    private readonly times = { activityMs: ACTIVITY_MS, doneMs: DONE_MS },
  ) {
    this.waiting = new Set([...clients].filter(({ state, chunks }) => state === 'open' && chunks.size > 0));
    this.deadline = now + times.activityMs;
    for (const client of this.waiting) client.askActivity(wanted);
  }

  activity(client: Client, activities: readonly ChunkActivity[], now: number): void {
    if (!this.waiting?.delete(client)) return;
    const told = new Map(activities.map(({ donorChunk, activity }) => [donorChunk, activity]));
    // A chunk that it does not speak of it does not need.
    for (const donorChunk of client.chunks) this.answers.push({ client, donorChunk, activity: told.get(donorChunk) ?? 0 });
    this.tick(now);
  }

  /** The client is gone, and what it had is back. @param chunks how many those were */
  gone(client: Client, chunks: number): void {
    if (this.waiting) this.wanted -= chunks;
    this.waiting?.delete(client);
    this.stopped.delete(client);
    for (let at = this.answers.length - 1; at >= 0; at--) if (this.answers[at]?.client === client) this.answers.splice(at, 1);
  }

  /** @returns true when it is over */
  tick(now: number): boolean {
    if (this.waiting) {
      if (now > this.deadline) {
        for (const client of [...this.waiting]) this.cutOff(client, 'no ACTIVITY in time');
        this.waiting.clear();
      }
      if (this.waiting.size > 0) return false;
      this.waiting = undefined;
      this.choose(now);
    }
    for (const [client, chunks] of [...this.stopped]) {
      if (![...chunks].some((chunk) => client.chunks.has(chunk))) this.stopped.delete(client);
      else if (now > this.deadline) this.cutOff(client, 'no DONE in time');
    }
    if (now > this.deadline) this.stopped.clear();
    return this.stopped.size === 0;
  }

  private choose(now: number): void {
    this.deadline = now + this.times.doneMs;
    const clients = new Set(this.answers.map(({ client }) => client));
    const chosen = this.answers.sort((a, b) => a.activity - b.activity).slice(0, Math.max(0, this.wanted));
    for (const client of clients) {
      const chunks = chosen.filter((answer) => answer.client === client).map(({ donorChunk }) => donorChunk);
      client.stop(chunks);
      if (chunks.length > 0) this.stopped.set(client, new Set(chunks));
    }
  }
}
