// The one written layout of what crosses between TypeScript and native code. src/core/layout.ts mirrors it; the addon
// exports these numbers and the two are compared when the addon is loaded, so a change on one side alone refuses to
// start.
//
// A command is 4 words of 32 bits, an event 8. A *page* is an index into the family's page space (not an address): the
// engine's range table turns it into (space, address). A *frame* is an index into the frame arena, a *slot* an index
// into the swap file (offset slot * 4096).
#pragma once
#include <cstdint>

namespace leap {

inline constexpr uint32_t kPageSize = 4096;
inline constexpr uint32_t kCommandWords = 4;
inline constexpr uint32_t kEventWords = 8;
inline constexpr uint32_t kHashWords = 4;    // XXH3, 128 bits, seeded per run
inline constexpr uint32_t kBatchPages = 64;  // the most pages in one run, and in one trip of the helper
inline constexpr uint32_t kMaxSpaces = 64;   // the target and its forked children
inline constexpr uint32_t kPlaceShift =
    8;  // a command's word: its number, and above this bit the place of a kRead or kWrite
inline constexpr uint32_t kReplicas = 2;  // places: 0 the swap file, 1 and 2 the replicas of the slot's chunk

enum class Command : int32_t {
  kMap = 1,   // page, frame, count: copy frames into pages (UFFDIO_COPY), wakes the faulting threads     -> kMapped
  kZero = 2,  // page, -, count: map zero pages (UFFDIO_ZEROPAGE), wakes                                   -> kMapped
              // with frame -1
  kWake = 3,  // page, -, count: UFFDIO_WAKE, no event
  kUnprotect =
      4,  // page, -, count: UFFDIO_WRITEPROTECT mode 0, wakes                                         -> kUnprotected
  kMoveOut = 5,  // page, frame, count: take pages away with UFFDIO_MOVE and copy them to frames              ->
                 // kEvicted per run of one status
  kDiscard = 6,  // page, frame, count: write-protect, copy to frames, MADV_DONTNEED                          ->
                 // kEvicted per run of one status
  kRead = 7,  // slot, frame, count: a place to frames, asynchronous                                       -> kReadDone
  kWrite =
      8,  // slot, frame, count: frames to a place, asynchronous                                       -> kWriteDone
  kPoison = 9,  // page, -, count: a touch raises SIGBUS (UFFDIO_POISON, Linux 6.6)                          -> kMapped
                // with frame -1
};

enum class Event : int32_t {
  kFault = 1,  // page, tid, flags (1 write, 2 write-protect), space
  kFaultUnknown =
      2,        // space, vpnLo, vpnHi, tid, flags: a registered address that no range covers (a mapping grew in place)
  kRemove = 3,  // space, startLo, startHi, endLo, endHi: the target's own MADV_DONTNEED/FREE, in virtual page numbers
                // [start, end)
  kUnmap = 4,   // space, startLo, startHi, endLo, endHi
  kRemap = 5,   // space, fromLo, fromHi, toLo, toHi, pages
  kFork = 6,  // parent space, child space or -1: it cannot be followed, errno (EMFILE: it waits in its fork until there
              // is a descriptor for it)
  kMapped = 7,       // page, frame or -1, pages done from the front, errno that stopped it or 0, pages asked for
  kUnprotected = 8,  // page, -, count, errno
  kEvicted = 9,  // page, frame, count, errno (0 taken; EPERM taken too, and to be put back at once: the kernel needs it
                 // when a thread exits, see arch::holdsThread; ENOENT not present; EBUSY pinned or shared; EINVAL not
                 // movable; EAGAIN; ESRCH), command
  kReadDone = 10,    // slot, frame, count, errno (ECANCELED: the replica was unmapped), place
  kWriteDone = 11,   // slot, frame, count, errno, place
  kTargetExit = 12,  // space: the process is gone (pidfd), or its address space is
  kHelperLost = 13,  // space: the helper died; the space can still be served but not evicted from
  kWake = 14,        // somebody wrote to wakeFd: look at the control port
  kFabric = 15,      // the fabric has something to say: takeEvents()
};

// Virtual page numbers cross as two words that both fit a small integer: vpn = hi * 2^30 + lo.
inline constexpr uint32_t kVpnLowBits = 30;

}  // namespace leap
