/**
 * Branded number types: the compiler refuses an index of one kind where another kind, or a plain count, is expected.
 * Only this file makes them.
 */
declare const brand: unique symbol;
type Branded<Name extends string> = number & { readonly [brand]: Name };

/** Index of a 4 KiB page of the family: dense, and unchanged when the target moves the page (mremap). */
export type PageIndex = Branded<'PageIndex'>;
/** Index of a 4 KiB buffer in the frame arena. */
export type FrameIndex = Branded<'FrameIndex'>;
/** Index of 4 KiB of the store, at offset slot * 4096. */
export type SlotIndex = Branded<'SlotIndex'>;
/** Index of an address space: 0 is the target, the others are its forked children. */
export type SpaceId = Branded<'SpaceId'>;
/** Virtual page number: address / 4096. Below 2^36, exact in a double. */
export type Vpn = Branded<'Vpn'>;

export const pageIndex = (n: number): PageIndex => n as PageIndex;
export const frameIndex = (n: number): FrameIndex => n as FrameIndex;
export const slotIndex = (n: number): SlotIndex => n as SlotIndex;
export const spaceId = (n: number): SpaceId => n as SpaceId;
export const vpn = (n: number): Vpn => n as Vpn;

export const PAGE_SIZE = 4096;
/** "No page", "no frame", "no slot". */
export const NONE = -1;

/**
 * How many sites should hold a slot when donors are mapped: one donor; two donors, or one and the swap file; two donors
 * and the swap file.
 */
export type Copies = 1 | 2 | 3;
