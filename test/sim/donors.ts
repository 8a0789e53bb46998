/**
 * The donors of a run, and what leapd's talk with them brings the pager: replicas given, wanted back, lost. A donor
 * dies only when every page has its copies: what two donors at once would take is lost for good, and that is no fault
 * of the pager's. With one copy any death may lose pages.
 */
import { REPLICAS, ReplicaState } from '../../src/tables/chunks.js';
import type { Pager } from '../../src/pager/pager.js';
import type { SimStore } from './sim-store.js';
import type { World } from './world.js';

/** Chances, once donors do something at all. */
const GIVE = 0.6;
const WANT_BACK = 0.25;
/** Turns within which the loss of a dead donor's chunks is noticed at the latest. */
const NOTICE = 0.1;

export class Donors {
  private next = 1;
  private readonly alive: number[] = [];

  constructor(
    private readonly world: World,
    private readonly store: SimStore,
    private readonly pager: Pager,
  ) {
    const { slotsPerChunk, donors } = world.config;
    if (slotsPerChunk === 0) return;
    store.slotsPerChunk = slotsPerChunk;
    for (let i = 0; i < donors; i++) this.alive.push(this.next++);
    pager.replicas.setSize(slotsPerChunk);
    pager.replicas.owner = {
      released: (replica, chunk) => {
        this.world.hit('donor:gets it back');
        this.store.checkReleased(replica, chunk);
      },
      failed: (replica, chunk) => this.world.note('failed', replica, chunk),
    };
  }

  act(): void {
    const { world, store, pager } = this;
    const { random, config } = world;
    if (config.slotsPerChunk === 0) return;
    for (const dead of store.replicas.filter((each) => each.dead)) {
      if (random.chance(NOTICE)) pager.replicas.lose(dead.replica, dead.chunk);
    }
    if (!random.chance(config.donorRate)) return;
    if (random.chance(GIVE)) return this.give();
    if (random.chance(WANT_BACK)) return this.wantBack();
    this.kill();
  }

  private give(): void {
    const { world, store, pager } = this;
    const { random } = world;
    const chunk = random.below(Math.max(1, Math.min(pager.replicas.chunkCount, 64)));
    const replica = random.below(REPLICAS);
    if (chunk >= pager.replicas.chunkCount || pager.replicas.stateOf(replica, chunk) !== ReplicaState.unmapped) return;
    const other = store.replicas.find((each) => each.chunk === chunk);
    const free = this.alive.filter((donor) => donor !== other?.donor);
    if (free.length === 0) return;
    world.hit('donor:gives');
    pager.replicas.map(replica, chunk, random.pick(free), 0, 0n);
  }

  private wantBack(): void {
    const { world, store, pager } = this;
    if (store.replicas.length === 0) return;
    const { replica, chunk } = world.random.pick(store.replicas);
    world.hit('donor:wants back');
    pager.replicas.leave(replica, chunk);
  }

  private kill(): void {
    const { world, store, pager } = this;
    const { random, config } = world;
    if (config.copies === 2 && (pager.replicas.endangered > 0 || store.replicas.some((each) => each.dead))) return;
    const donor = random.pick(this.alive);
    world.hit('donor:dies');
    world.note('kill donor', donor);
    store.kill(donor, config.copies === 1);
    this.alive[this.alive.indexOf(donor)] = this.next++; // another one, or the same again with nothing in it
  }
}
