// moveOut: empty the arena, UFFDIO_MOVE victims to it, read it.
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>
#include <cerrno>
#include <initializer_list>

#include "helper/helper.h"

namespace leap {
namespace {
constexpr int kUndecided = -1;
}

// Registered or not: the destination of UFFDIO_MOVE must be, with the descriptor that the call is made on.
void Helper::pushArena(bool registered) {
  const uffdio_range range{parts_.area.arena, kBatchPages * static_cast<uint64_t>(kPageSize)};
  Step& step =
      push(SYS_ioctl, static_cast<uint64_t>(parts_.uffdInside), registered ? UFFDIO_REGISTER : UFFDIO_UNREGISTER);
  step.call.arguments[2] = requestAddress();
  step.registration = {range, UFFDIO_REGISTER_MODE_MISSING, 0};  // of which the other calls read the range
  if (registered) return;
  // Unregistering wakes who waits in there, but before it takes the lock of the mapping: who comes between the two
  // sleeps on.
  Step& wake = push(SYS_ioctl, static_cast<uint64_t>(parts_.uffdInside), UFFDIO_WAKE);
  wake.call.arguments[2] = requestAddress();
  wake.registration.range = range;
}

// One trip. The arena is registered for the length of the program only. So emptying it, at the head of a batch, raises
// no event that somebody would have to read; and whoever in the target looks at all its memory (a collector, a core
// dump) never gets stuck in it: the end of the program wakes those too.
void Helper::moveRound(const Piece* pieces, size_t count, int* status) {
  steps_ = 0;
  if (firstRound_) push(SYS_madvise, parts_.area.arena, kBatchPages * static_cast<uint64_t>(kPageSize), MADV_DONTNEED);
  pushArena(true);
  const size_t head = steps_;
  for (size_t i = 0; i < count; i++) {
    Step& step = push(SYS_ioctl, static_cast<uint64_t>(parts_.uffdInside), UFFDIO_MOVE);
    step.call.arguments[2] = requestAddress();
    step.move = {parts_.area.arena + pieces[i].first * static_cast<uint64_t>(kPageSize), pieces[i].address,
                 pieces[i].pages * static_cast<uint64_t>(kPageSize), 0, 0};
  }
  pushArena(false);
  if (!start() || !finish()) return;
  if (!allZero_) fetchResults();
  if (firstRound_) emptied_ = allZero_ || program_[0].call.result == 0;
  firstRound_ = false;
  for (size_t i = 0; i < count; i++) {
    const Step& step = program_[head + i];
    uint32_t moved = pieces[i].pages;
    int stopped = 0;
    if (!allZero_ && step.call.result != 0) {
      // Moved in part: `move` has the bytes, and why it stopped is not told. Not at all: `move` has the error;
      // before 6.15 not when it is EAGAIN.
      moved = step.move.move > 0 ? static_cast<uint32_t>(step.move.move / kPageSize) : 0;
      // EINVAL speaks of the whole run: it lies across two mappings, one of which may well be movable.
      stopped = moved ? kUndecided : static_cast<int>(step.move.move < 0 ? -step.move.move : -step.call.result);
      if (stopped == EINVAL && pieces[i].pages > 1) stopped = kUndecided;
      if (stopped == EEXIST) stopped = wasMoved(pieces[i].address, pieces[i].first) ? 0 : EAGAIN;
    }
    for (uint32_t page = 0; page < pieces[i].pages; page++) {
      status[pieces[i].first + page] = page < moved ? 0 : page == moved ? stopped : kUndecided;
    }
  }
}

// Whether the page is in its place in the arena, and not at its old one any more. Refused with EEXIST it may be: seen
// on Linux 6.18, where somebody else holds a page for a moment (compaction, DAMON), the kernel tries again, and having
// moved it once more, which is then refused. Taken at its word, the page is lost. Else somebody has looked into the
// arena just behind its emptying.
bool Helper::wasMoved(uint64_t address, uint32_t page) const {
  return emptied_ && presentMask(address, 1) == 0 &&
         presentMask(parts_.area.arena + page * static_cast<uint64_t>(kPageSize), 1) != 0;
}

bool Helper::moveOut(const Run* runs, size_t count, int* status) {
  Piece pieces[kBatchPages];
  uint32_t total = 0;
  for (size_t i = 0; i < count; total += runs[i].pages, i++) pieces[i] = {runs[i].address, total, runs[i].pages};
  for (uint32_t page = 0; page < total; page++) status[page] = lost_ ? EIO : kUndecided;
  if (lost_ || total == 0) return !lost_;

  // Whole runs; then, where a run stopped, what is left of it page by page; then once more those that were busy for the
  // moment.
  firstRound_ = true;
  emptied_ = false;
  moveRound(pieces, count, status);
  for (const int again : {kUndecided, EAGAIN}) {
    size_t left = 0;
    uint32_t page = 0;
    for (size_t i = 0; i < count; i++) {
      for (uint32_t k = 0; k < runs[i].pages; k++, page++) {
        if (status[page] == again) pieces[left++] = {runs[i].address + k * static_cast<uint64_t>(kPageSize), page, 1};
      }
    }
    if (left && !lost_) moveRound(pieces, left, status);
  }
  if (lost_) judgeLost(runs, count, status);
  readArena(runs, count, status);
  return !lost_;
}

// The helper died in the midst of a program: what it did is seen from what it left in the arena. If it never came to
// empty that, the pages there are old ones.
void Helper::judgeLost(const Run* runs, size_t count, int* status) {
  if (written_) fetchResults();
  if (firstRound_) emptied_ = program_[0].call.result == 0;
  uint32_t page = 0;
  for (size_t i = 0; i < count; i++) {
    for (uint32_t k = 0; k < runs[i].pages; k++, page++) {
      if (status[page] != kUndecided && status[page] != EAGAIN) continue;
      status[page] = wasMoved(runs[i].address + k * static_cast<uint64_t>(kPageSize), page) ? 0 : EIO;
    }
  }
}

// Only pages that were filled are touched: any other would be a fault in the arena, which nobody serves.
void Helper::readArena(const Run* runs, size_t count, int* status) {
  iovec local[kBatchPages], remote[kBatchPages];
  size_t segments = 0, bytes = 0;
  uint32_t page = 0;
  for (size_t i = 0; i < count; i++) {
    bool joined = false;
    for (uint32_t k = 0; k < runs[i].pages; k++, page++) {
      if (status[page] != 0) {
        joined = false;
      } else if (joined) {
        local[segments - 1].iov_len += kPageSize;
        remote[segments - 1].iov_len += kPageSize;
      } else {
        local[segments] = {runs[i].into + k * static_cast<size_t>(kPageSize), kPageSize};
        remote[segments] = {reinterpret_cast<void*>(parts_.area.arena + page * static_cast<uint64_t>(kPageSize)),
                            kPageSize};
        segments++;
        joined = true;
      }
      bytes += status[page] == 0 ? kPageSize : 0;
    }
  }
  if (segments == 0) return;
  if (!dead_ && process_vm_readv(parts_.pid, local, segments, remote, segments, 0) == static_cast<ssize_t>(bytes))
    return;
  for (size_t i = 0; i < segments; i++) {
    // The helper is gone; the open /proc/PID/mem still reaches the memory as long as the target lives. If not even
    // that, nobody needs the bytes.
    const auto from = reinterpret_cast<uint64_t>(remote[i].iov_base);
    if (pread(memory_, local[i].iov_base, local[i].iov_len, static_cast<off_t>(from)) ==
        static_cast<ssize_t>(local[i].iov_len))
      continue;
    const uint64_t first = (from - parts_.area.arena) / kPageSize;
    for (uint64_t k = 0; k < local[i].iov_len / kPageSize; k++) status[first + k] = EIO;
  }
}

}  // namespace leap
