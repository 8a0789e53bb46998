/**
 * Chunks that donors want back (STOP). Each is given back (DONE) as soon as no page depends on it, those of a quarter
 * of a second in one message: a donor waits as long as something comes. An original donor knows one DONE only, for all
 * of them.
 */
import type { Donor } from './donor.js';

interface Order {
  readonly donor: Donor;
  readonly request: number;
  readonly donorChunks: readonly number[];
  /** Replicas that are still to be emptied. */
  readonly left: Set<number>;
  /** Donor's chunks that are empty, and have not been said to be. */
  readonly empty: number[];
}

export class Orders {
  private readonly all: Order[] = [];

  /** @param left the replicas that are in the chunks; what has been released meanwhile is in none */
  add(donor: Donor, request: number, donorChunks: readonly number[], left: Set<number>): void {
    const order: Order = { donor, request, donorChunks, left, empty: [] };
    this.all.push(order);
    if (left.size === 0) this.finish(order);
  }

  /** Nothing depends on this replica any more. @returns false: nobody wants its chunk back */
  emptied(replica: number, donorChunk: number): boolean {
    const orders = this.all.filter(({ left }) => left.has(replica));
    // A donor that is told to end wants back what it has wanted back before: it is told once.
    orders[0]?.empty.push(donorChunk);
    for (const order of orders) {
      order.left.delete(replica);
      if (order.left.size === 0) this.finish(order);
    }
    return orders.length > 0;
  }

  /** A few times a second. */
  report(): void {
    for (const order of [...this.all]) {
      if (!order.donor.isOriginal && order.empty.length > 0) order.donor.done(order.request, order.empty.splice(0));
    }
  }

  forget(donor: Donor): void {
    for (let i = this.all.length - 1; i >= 0; i--) if (this.all[i]?.donor === donor) this.all.splice(i, 1);
  }

  private finish(order: Order): void {
    const { donor, request, donorChunks, empty } = order;
    this.all.splice(this.all.indexOf(order), 1);
    if (donor.isOriginal) donor.done(request, donorChunks);
    else if (empty.length > 0) donor.done(request, empty);
  }
}
