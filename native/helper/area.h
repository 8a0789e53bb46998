// Area: leapd's own pages in the target. They must never be registered for missing pages or evicted.
#pragma once
#include <cstdint>

#include "base/layout.h"

namespace leap {

struct Area {
  static constexpr uint64_t kRequestBytes = 2 * kPageSize;
  static constexpr uint64_t kArenaBytes = uint64_t{kBatchPages} * kPageSize;
  // Offset in the request pages, in bytes: the ranges that process_madvise is given. The program lies below.
  static constexpr uint64_t kVectorOffset = 7168;
  static_assert(kVectorOffset + kBatchPages * 16 <= kRequestBytes, "a struct iovec for each page of a batch");

  uint64_t start = 0, end = 0;  // with a guard page at either end
  uint64_t requests = 0;        // the program that the helper runs, and what its calls point to
  uint64_t code = 0;            // one page: arch::kCode
  uint64_t arena = 0;           // UFFDIO_MOVE takes victims to here

  uint64_t vector() const { return requests + kVectorOffset; }
  uint64_t arenaPage(uint32_t page) const { return arena + uint64_t{page} * kPageSize; }
};

}  // namespace leap
