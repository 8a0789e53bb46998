// Batch: the victims of one call of the helper: runs of pages, where their bytes go, and a status for each page.
#pragma once
#include <cstddef>
#include <cstdint>

#include "base/layout.h"

namespace leap {

class Batch {
 public:
  // Status of a page that is not decided yet. Every other status is 0 or an errno.
  static constexpr int kUndecided = -1;

  struct Run {
    uint64_t address;  // page aligned; the run lies in one registered range
    uint32_t pages;
    uint8_t* into;  // pages * 4096 bytes of leapd's
  };
  // Pages of one run, one behind the other, that are handled by one request. `first` counts over the whole batch.
  struct Piece {
    uint64_t address;
    uint32_t first, pages;
    uint8_t* into;
    uint64_t bytes() const { return uint64_t{pages} * kPageSize; }
  };
  struct Pieces {
    Piece list[kBatchPages];
    size_t count = 0;
    const Piece* begin() const { return list; }
    const Piece* end() const { return list + count; }
    const Piece& operator[](size_t i) const { return list[i]; }
  };

  // `status` has room for the pages of all runs, at most kBatchPages. Sets them all to `initial`.
  Batch(const Run* runs, size_t count, int* status, int initial) : runs_(runs), count_(count), status_(status) {
    for (size_t i = 0; i < count; i++) pages_ += runs[i].pages;
    for (uint32_t page = 0; page < pages_; page++) status[page] = initial;
  }

  uint32_t pages() const { return pages_; }
  int& status(uint32_t page) const { return status_[page]; }

  // The pages whose status is `status`, in pieces of at most `longest` pages.
  Pieces gather(int status, uint32_t longest = kBatchPages) const {
    Pieces pieces;
    uint32_t page = 0;
    for (size_t i = 0; i < count_; i++) {
      bool joins = false;
      for (uint32_t k = 0; k < runs_[i].pages; k++, page++) {
        const uint64_t offset = uint64_t{k} * kPageSize;
        if (status_[page] != status) {
          joins = false;
        } else if (joins && pieces.list[pieces.count - 1].pages < longest) {
          pieces.list[pieces.count - 1].pages++;
        } else {
          pieces.list[pieces.count++] = {runs_[i].address + offset, page, 1, runs_[i].into + offset};
          joins = true;
        }
      }
    }
    return pieces;
  }

 private:
  const Run* runs_;
  size_t count_;
  int* status_;
  uint32_t pages_ = 0;
};

}  // namespace leap
