/** What must hold between the tables after every step; for the simulator and the tests. @throws Error that names the page or frame. */
import type { Family } from '../family/family.js';
import { FrameState } from '../tables/frame-table.js';
import { PageFlag, State, STATES, STATE_NAMES } from '../tables/page-table.js';
import { SlotState } from '../tables/slot-table.js';
import { type FrameIndex, NONE, frameIndex, pageIndex, slotIndex } from '../core/types.js';
import type { WriteBack } from '../store/write-back.js';

export function checkFamily(family: Family, writeBack: WriteBack): void {
  const { pages, frames, slots, regions } = family;
  const counts = new Int32Array(STATES);
  const references = new Int32Array(slots.capacity);
  let resident = 0;
  for (let p = 0; p < regions.indexEnd; p++) {
    const page = pageIndex(p);
    const state = pages.state[p];
    counts[state]++;
    const inRegion = regions.find(page) !== undefined;
    if (inRegion !== (state !== State.unused))
      throw new Error(`page ${p} is ${STATE_NAMES[state]} and ${inRegion ? 'in' : 'in no'} region`);
    if ((state === State.resident && !pages.has(page, PageFlag.fixed)) || state === State.evicting) resident++;
    if (state === State.resident || state === State.stored) {
      const slot = pages.slotOf(page);
      if (slot !== NONE) references[slot]++;
      else if (state === State.stored) throw new Error(`page ${p} is STORED nowhere`);
    }
    if (state === State.buffered || state === State.fetching) {
      const frame = pages.frameOf(page);
      if (frames.pageOf(frame) !== page)
        throw new Error(`page ${p} is in frame ${frame}, which holds page ${frames.pageOf(frame)}`);
      if ((frames.state[frame] === FrameState.filling) !== (state === State.fetching))
        throw new Error(`page ${p} is ${STATE_NAMES[state]} in a frame of state ${frames.state[frame]}`);
      references[frames.slotOf(frame)]++;
    }
    if (state === State.evicting && frames.slotOf(pages.frameOf(page)) !== NONE)
      references[frames.slotOf(pages.frameOf(page))]++;
    if (pages.has(page, PageFlag.queued) && !pages.has(page, PageFlag.waiting) && state !== State.unused)
      throw new Error(`page ${p} is queued and nobody waits`);
  }
  for (let state = 1; state < STATES; state++) {
    if (counts[state] !== pages.counts[state])
      throw new Error(`${counts[state]} pages are ${STATE_NAMES[state]}, counted ${pages.counts[state]}`);
  }
  if (resident !== family.limit.resident)
    throw new Error(`${resident} pages are resident, counted ${family.limit.resident}`);
  checkFrames(family, references);
  for (let s = 0; s < slots.capacity; s++) {
    const counted = slots.referencesOf(slotIndex(s));
    if (counted !== references[s]) throw new Error(`slot ${s} has ${references[s]} references, counted ${counted}`);
    if (slots.state[s] === SlotState.free && counted > 0) throw new Error(`slot ${s} is free and referred to`);
    if (slots.state[s] === SlotState.valid && counted === 0)
      throw new Error(`slot ${s} is valid and nobody refers to it`);
  }
  writeBack.check();
}

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
    // The read of a page that was removed meanwhile keeps its slot.
    if ((state === FrameState.filling && frames.pageOf(frame) === NONE) || state === FrameState.mending)
      references[frames.slotOf(frame)]++;
    if (state === FrameState.clean && frames.pageOf(frame) === NONE)
      throw new Error(`frame ${f} is clean and holds no page`);
  }
  if (free !== frames.free) throw new Error(`${free} frames are free, counted ${frames.free}`);
}
