/** The address spaces of the family: what is paged in each, and what the target does to them. */
import { NONE, type SpaceId, type Vpn } from '../core/types.js';
import type { Family } from '../family/family.js';
import type { Fetcher } from '../store/fetcher.js';
import type { WriteBack } from '../store/write-back.js';
import { AddressEvents } from './address-events.js';
import { Adoption } from './adoption.js';
import { Fork } from './fork.js';
import { MappingCache } from './mapping-cache.js';
import { MappingScan } from './mapping-scan.js';
import { PageRemoval } from './page-removal.js';

export class Spaces {
  private readonly cache: MappingCache;
  private readonly mappingScan: MappingScan;
  private readonly events: AddressEvents;
  private readonly fork: Fork;
  private readonly adoption: Adoption;

  constructor(
    private readonly family: Family,
    fetcher: Fetcher,
    writeBack: WriteBack,
  ) {
    this.cache = new MappingCache(family.engine);
    this.mappingScan = new MappingScan(family, this.cache);
    const removal = new PageRemoval(family, fetcher, writeBack);
    this.events = new AddressEvents(family, this.cache, this.mappingScan, removal);
    this.fork = new Fork(family, this.cache);
    this.adoption = new Adoption(family);
  }

  /** Finds mappings that are new or have grown. @param faultAt see MappingScan */
  scan(space: SpaceId, faultAt = NONE): void {
    this.mappingScan.run(space, faultAt);
  }

  /** A fault at an address that is registered and in no region: a mapping has grown in place. */
  grown(space: SpaceId, faultAt: number): void {
    this.mappingScan.expire(space);
    this.mappingScan.run(space, faultAt);
  }

  removed(space: SpaceId, start: number, end: number): void {
    this.events.removed(space, start, end);
  }

  unmapEvent(space: SpaceId, start: number, end: number): void {
    this.events.unmapEvent(space, start, end);
  }

  moved(space: SpaceId, from: Vpn, to: Vpn, count: number): void {
    this.events.moved(space, from, to, count);
  }

  forkWaits(errno: number): void {
    this.fork.waits(errno);
  }

  forked(parent: SpaceId, child: SpaceId): void {
    this.fork.forked(parent, child);
  }

  adopt(space: SpaceId, thread: number): void {
    this.adoption.adopt(space, thread);
  }

  fix(space: SpaceId): void {
    this.adoption.fix(space);
  }

  /** The process has exited or called exec: forgets its pages and gives the space up. */
  gone(space: SpaceId): void {
    const { family } = this;
    const at = family.spaces.indexOf(space);
    if (at < 0) return;
    family.spaces.splice(at, 1);
    for (const { start, count } of family.regions.of(space)) this.events.unmapped(space, start, start + count);
    this.mappingScan.expire(space);
    this.cache.drop(space);
    this.events.drop(space);
    this.adoption.drop(space);
    family.engine.drop(space);
  }

  /** A few times a second: drops spaces that are gone, scans the others, and rechecks removed ranges. */
  tick(): void {
    const { family } = this;
    for (const space of [...family.spaces]) if (!family.engine.isAlive(space)) this.gone(space);
    for (const space of family.spaces) this.scan(space);
    this.events.recheck();
    family.rescan = false;
  }
}
