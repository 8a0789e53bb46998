/**
 * What must hold between the tables after every turn; for the simulator and the tests.
 * @throws Error that names the page, frame or slot
 */
import type { Family } from '../family/family.js';
import { FrameState } from '../tables/frame-table.js';
import { PageFlag, State, STATES, STATE_NAMES } from '../tables/page-table.js';
import { SlotState } from '../tables/slot-table.js';
import { type FrameIndex, NONE, type PageIndex, frameIndex, pageIndex, slotIndex } from '../core/types.js';
import type { WriteBack } from '../store/write-back.js';

export function checkFamily(family: Family, writeBack: WriteBack): void {
  const references = new Int32Array(family.slots.capacity);
  checkCounts(family);
  for (let page = 0; page < family.regions.indexEnd; page++) checkPage(family, pageIndex(page), references);
  checkFrames(family, references);
  checkSlots(family, references);
  writeBack.check();
}

/** The pages in each state, and the resident ones that count against the limit, are as many as counted. */
function checkCounts({ pages, regions, limit }: Family): void {
  const counts = new Int32Array(STATES);
  let found = 0;
  for (let p = 0; p < regions.indexEnd; p++) {
    const state = pages.state[p];
    counts[state]++;
    if (state === State.evicting || (state === State.resident && !pages.has(pageIndex(p), PageFlag.fixed))) found++;
  }
  for (let state = 1; state < STATES; state++) {
    if (counts[state] !== pages.counts[state])
      throw new Error(`${counts[state]} pages are ${STATE_NAMES[state]}, counted ${pages.counts[state]}`);
  }
  if (found !== limit.resident) throw new Error(`${found} pages are resident, counted ${limit.resident}`);
}

/** A page's state agrees with its region, frame and slot. Adds the slot that it refers to to `references`. */
function checkPage(family: Family, page: PageIndex, references: Int32Array): void {
  const { pages, frames, regions } = family;
  const state = pages.state[page];
  const inRegion = regions.find(page) !== undefined;
  if (inRegion !== (state !== State.unused))
    throw new Error(`page ${page} is ${STATE_NAMES[state]} and ${inRegion ? 'in' : 'in no'} region`);
  if (state === State.resident || state === State.stored) {
    const slot = pages.slotOf(page);
    if (slot !== NONE) references[slot]++;
    else if (state === State.stored) throw new Error(`page ${page} is STORED nowhere`);
  }
  if (state === State.buffered || state === State.fetching) {
    const frame = pages.frameOf(page);
    if (frames.pageOf(frame) !== page)
      throw new Error(`page ${page} is in frame ${frame}, which holds page ${frames.pageOf(frame)}`);
    if ((frames.state[frame] === FrameState.filling) !== (state === State.fetching))
      throw new Error(`page ${page} is ${STATE_NAMES[state]} in a frame of state ${frames.state[frame]}`);
    references[frames.slotOf(frame)]++;
  }
  if (state === State.evicting && frames.slotOf(pages.frameOf(page)) !== NONE)
    references[frames.slotOf(pages.frameOf(page))]++;
  if (pages.has(page, PageFlag.queued) && !pages.has(page, PageFlag.waiting) && state !== State.unused)
    throw new Error(`page ${page} is queued and no thread waits for it`);
}

/** Each slot has as many owners as counted; a free one has none, a valid one at least one. */
function checkSlots({ slots }: Family, references: Int32Array): void {
  for (let s = 0; s < slots.capacity; s++) {
    const counted = slots.referencesOf(slotIndex(s));
    if (counted !== references[s]) throw new Error(`slot ${s} has ${references[s]} references, counted ${counted}`);
    if (slots.state[s] === SlotState.free && counted > 0) throw new Error(`slot ${s} is free and has an owner`);
    if (slots.state[s] === SlotState.valid && counted === 0) throw new Error(`slot ${s} is valid and has no owner`);
  }
}

/** Each frame is in at most one list, and in a state that agrees with it. */
function checkFrames(family: Family, references: Int32Array): void {
  const { frames } = family;
  let free = 0;
  for (let f = 0; f < frames.count; f++) {
    const frame: FrameIndex = frameIndex(f);
    const state = frames.state[f];
    const listed =
      Number(family.prefetched.has(frame)) + Number(family.evicted.has(frame)) + Number(family.dirty.has(frame));
    if (listed > 1) throw new Error(`frame ${f} is in ${listed} lists`);
    if (state === FrameState.free) free++;
    if (listed > 0 && state !== FrameState.clean && state !== FrameState.dirty)
      throw new Error(`frame ${f} of state ${state} is in a list`);
    // A read in flight refers to its slot, even when its page has been removed meanwhile.
    if ((state === FrameState.filling && frames.pageOf(frame) === NONE) || state === FrameState.mending)
      references[frames.slotOf(frame)]++;
    if (state === FrameState.clean && frames.pageOf(frame) === NONE)
      throw new Error(`frame ${f} is clean and holds no page`);
  }
  if (free !== frames.free) throw new Error(`${free} frames are free, counted ${frames.free}`);
}
