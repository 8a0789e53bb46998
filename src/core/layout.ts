/**
 * What crosses between TypeScript and native code, word by word. Mirror of native/base/layout.h, which says what each
 * record holds; `checkLayout` compares the two when the addon is loaded.
 */
export const COMMAND_WORDS = 4;
export const EVENT_WORDS = 8;
export const HASH_WORDS = 4;
export const BATCH_PAGES = 64;
export const MAX_SPACES = 64;
export const VPN_LOW_BITS = 30;

export const Command = {
  map: 1,
  zero: 2,
  wake: 3,
  unprotect: 4,
  moveOut: 5,
  discard: 6,
  read: 7,
  write: 8,
  poison: 9,
} as const;

export const Event = {
  fault: 1,
  faultUnknown: 2,
  remove: 3,
  unmap: 4,
  remap: 5,
  fork: 6,
  mapped: 7,
  unprotected: 8,
  evicted: 9,
  readDone: 10,
  writeDone: 11,
  targetExit: 12,
  helperLost: 13,
  wake: 14,
  fabric: 15,
} as const;

/**
 * Where a read or write goes stands above the command's number: 0 the swap file, 1 and 2 the replicas of the slot's
 * chunk.
 */
export const PLACE_SHIFT = 8;

export const FAULT_WRITE = 1;
export const FAULT_WP = 2;

/** The errno values that the pager tells apart (Linux, asm-generic). */
export const Errno = {
  ok: 0,
  EPERM: 1,
  ENOENT: 2,
  ESRCH: 3,
  EIO: 5,
  EAGAIN: 11,
  ENOMEM: 12,
  EBUSY: 16,
  EEXIST: 17,
  EINVAL: 22,
  ENOSPC: 28,
  ECANCELED: 125,
} as const;

const VPN_LOW_SPAN = 2 ** VPN_LOW_BITS;
export const vpnLow = (vpn: number): number => vpn % VPN_LOW_SPAN;
export const vpnHigh = (vpn: number): number => Math.floor(vpn / VPN_LOW_SPAN);
export const joinVpn = (low: number, high: number): number => high * VPN_LOW_SPAN + low;

/** The layout as one flat object; native/addon/addon.cc exports the same keys from native/base/layout.h. */
function layoutOfTypescript(): Record<string, number> {
  const flat: Record<string, number> = {
    commandWords: COMMAND_WORDS,
    eventWords: EVENT_WORDS,
    hashWords: HASH_WORDS,
    batchPages: BATCH_PAGES,
    maxSpaces: MAX_SPACES,
    vpnLowBits: VPN_LOW_BITS,
    placeShift: PLACE_SHIFT,
  };
  for (const [name, value] of Object.entries(Command)) flat[`command.${name}`] = value;
  for (const [name, value] of Object.entries(Event)) flat[`event.${name}`] = value;
  return flat;
}

/** @throws Error naming the first number on which the two sides differ. */
export function checkLayout(native: Record<string, number>): void {
  const ours = layoutOfTypescript();
  for (const key of new Set([...Object.keys(ours), ...Object.keys(native)])) {
    if (ours[key] !== native[key]) {
      throw new Error(
        `layout differs on ${key}: TypeScript ${ours[key]}, native ${native[key]}; rebuild with: npm run build`,
      );
    }
  }
}
