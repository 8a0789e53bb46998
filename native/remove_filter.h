// Tells the REMOVE events of our own discards from the target's, which may come for the same pages at the same time.
//
// madvise raises one event for each mapping that the range lies in, in ascending order. Ours is recognised by being exactly what the next madvise of a
// run must raise: from the run's cursor to the run's end, or to the end of the mapping where a run lies across two. An equal event of the target's own
// may be taken for ours, and ours is then passed on instead: they are equal, so nothing is lost.
#pragma once
#include <sys/types.h>
#include <cstddef>
#include <cstdint>

#include "layout.h"
#include "uffd_abi.h"

namespace leap {

class RemoveFilter {
 public:
  // End of the mapping at an address, 0 for none: asked in the rare case only that an event covers the front of a run.
  using MappingEnd = uint64_t (*)(pid_t pid, uint64_t address);

  RemoveFilter(pid_t pid, MappingEnd mappingEnd) : pid_(pid), mappingEnd_(mappingEnd) {}

  void expect(uint64_t start, uint64_t end) { runs_[count_++] = {start, end}; }

  // True when the message is ours and must be swallowed.
  bool take(const uffd_msg& message) {
    if (message.event != UFFD_EVENT_REMOVE) return false;
    const uint64_t start = message.arg.remove.start, end = message.arg.remove.end;
    for (size_t i = first_; i < count_; i++) {
      if (runs_[i].cursor != start || runs_[i].cursor == runs_[i].end || end > runs_[i].end) continue;
      if (end != runs_[i].end && mappingEnd_(pid_, start) != end) return false;
      runs_[i].cursor = end;
      while (first_ < count_ && runs_[first_].cursor == runs_[first_].end) first_++;  // mostly they come in order
      return true;
    }
    return false;
  }

 private:
  struct Run {
    uint64_t cursor, end;
  };
  pid_t pid_;
  MappingEnd mappingEnd_;
  size_t first_ = 0, count_ = 0;
  Run runs_[kBatchPages];
};

}  // namespace leap
