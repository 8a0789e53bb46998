/**
 * What could not be read, by page or by slot, and when it may be tried again. Wrong bytes are asked for again at once,
 * a few times: the way may have damaged them. An error may pass (a disk that resets, a network that is down): it is
 * waited out, with pauses that double, ten seconds in all.
 */
import { Errno } from '../core/layout.js';

const WRONG_TRIES = 4;
const FIRST_PAUSE_NS = 10e6;
/** 10 ms + 20 ms + ... + 5.12 s: 10.2 s. */
const PAUSES = 10;

interface Failure {
  wrong: number;
  errors: number;
  /** Not to be tried before, ns; Infinity: given up. */
  again: number;
}

export class Retries {
  private readonly failures = new Map<number, Failure>();
  /** When the first of the pauses is over. */
  next = Infinity;

  get size(): number {
    return this.failures.size;
  }

  /** A read has failed; errno 0: it brought wrong bytes. @returns false: it is given up, until it is forgotten */
  failed(key: number, errno: number, now: number): boolean {
    const failure = this.failures.get(key) ?? { wrong: 0, errors: 0, again: 0 };
    this.failures.set(key, failure);
    if (errno === Errno.ok) failure.wrong++;
    else failure.again = now + FIRST_PAUSE_NS * 2 ** failure.errors++;
    if (failure.wrong === WRONG_TRIES || failure.errors > PAUSES) {
      failure.again = Infinity;
      return false;
    }
    this.next = Math.min(this.next, failure.again);
    return true;
  }

  has(key: number): boolean {
    return this.failures.size > 0 && this.failures.has(key);
  }

  /** When it may be tried, ns: at once (0), later, or never. */
  againAt(key: number): number {
    return this.failures.size === 0 ? 0 : (this.failures.get(key)?.again ?? 0);
  }

  /** Calls back for those whose pause is over, if there are new ones. */
  resume(now: number, each: (key: number) => void): void {
    if (now < this.next) return;
    this.next = Infinity;
    for (const [key, { again }] of this.failures) {
      if (again <= now) each(key);
      else this.next = Math.min(this.next, again);
    }
  }

  /** @returns whether it had failed */
  forget(key: number): boolean {
    return this.failures.size > 0 && this.failures.delete(key);
  }

  /** Forgets those in [first, end). */
  forgetRun(first: number, end: number): void {
    for (const key of this.failures.keys()) if (key >= first && key < end) this.failures.delete(key);
  }
}
