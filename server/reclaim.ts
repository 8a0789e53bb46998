/**
 * Getting lent chunks back: EVICT to all who have any, ACTIVITY from them, STOP for the least active, DONE for each as
 * it is emptied. Pure. To empty a chunk takes as long as its pages take to where they go; so a client has time for as
 * long as chunks come back from it, up to a bound. Whoever stands still is cut off, which brings all its chunks back,
 * and loses the pages that are nowhere else.
 */
import type { ChunkActivity } from '../src/donors/wire/messages.js';
import type { ClientSession } from './client-session.js';

export interface ReclaimTimes {
  /** For ACTIVITY. */
  readonly activityMs: number;
  /** From one chunk to the next. */
  readonly chunkMs: number;
  /** From STOP to the last one. */
  readonly totalMs: number;
}

export const ACTIVITY_MS = 5000;
const LEAST_CHUNK_MS = 30_000;
/** A chunk's pages may have to go to a slow disk. */
const BYTES_A_SECOND = 32 * 2 ** 20;

/** @param totalMs what the host is ready to wait for everything */
export const timesFor = (chunkBytes: number, totalMs: number): ReclaimTimes => ({
  activityMs: ACTIVITY_MS,
  chunkMs: LEAST_CHUNK_MS + (chunkBytes / BYTES_A_SECOND) * 1000,
  totalMs,
});

/** Chunks that a client was told to give back. */
interface Stopped {
  readonly chunks: readonly number[];
  left: number;
  deadline: number;
}

export class Reclaim<Client extends ClientSession> {
  /** Clients whose ACTIVITY is to come; undefined when the choice has been made. */
  private waiting: Set<Client> | undefined;
  private readonly answers: { readonly client: Client; readonly donorChunk: number; readonly activity: number }[] = [];
  private readonly stopped = new Map<Client, Stopped>();
  /** For ACTIVITY first, then for everything. */
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
    private readonly times: ReclaimTimes,
  ) {
    this.waiting = new Set([...clients].filter(({ state, chunks }) => state === 'open' && chunks.size > 0));
    this.deadline = now + times.activityMs;
    for (const client of this.waiting) client.askActivity(wanted);
  }

  activity(client: Client, activities: readonly ChunkActivity[], now: number): void {
    if (!this.waiting?.delete(client)) return;
    const told = new Map(activities.map(({ donorChunk, activity }) => [donorChunk, activity]));
    // A message holds the least active ones: a chunk that it does not speak of is used more than any of those.
    for (const donorChunk of client.chunks)
      this.answers.push({ client, donorChunk, activity: told.get(donorChunk) ?? Infinity });
    this.tick(now);
  }

  /** The client is gone, and what it had is back. @param chunks how many those were */
  gone(client: Client, chunks: number): void {
    if (this.waiting) this.wanted -= chunks;
    this.waiting?.delete(client);
    this.stopped.delete(client);
    for (let at = this.answers.length - 1; at >= 0; at--)
      if (this.answers[at]?.client === client) this.answers.splice(at, 1);
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
    for (const [client, stopped] of [...this.stopped]) this.follow(client, stopped, now);
    return this.stopped.size === 0;
  }

  private follow(client: Client, stopped: Stopped, now: number): void {
    const left = stopped.chunks.filter((chunk) => client.chunks.has(chunk)).length;
    if (left < stopped.left) stopped.deadline = now + this.times.chunkMs;
    stopped.left = left;
    if (left > 0 && now <= Math.min(stopped.deadline, this.deadline)) return;
    this.stopped.delete(client);
    if (left > 0) this.cutOff(client, `${left} of ${stopped.chunks.length} chunks not given back in time`);
  }

  private choose(now: number): void {
    this.deadline = now + this.times.totalMs;
    const clients = new Set(this.answers.map(({ client }) => client));
    const chosen = this.answers.sort(byActivity).slice(0, Math.max(0, this.wanted));
    for (const client of clients) {
      const chunks = chosen.filter((answer) => answer.client === client).map(({ donorChunk }) => donorChunk);
      client.stop(chunks);
      if (chunks.length === 0) continue;
      const steps = client.givesBackAtOnce ? chunks.length : 1;
      this.stopped.set(client, { chunks, left: chunks.length, deadline: now + steps * this.times.chunkMs });
    }
  }
}

/** Two that are not spoken of are equal: Infinity less Infinity is no number. */
const byActivity = (a: { readonly activity: number }, b: { readonly activity: number }): number =>
  a.activity === b.activity ? 0 : a.activity - b.activity;
