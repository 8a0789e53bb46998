// The range table: which page index stands at which address. Two sorted arrays over the same ranges, one searched by
// page (commands), one by space and address (faults); both remember the last hit, since neighbours come together.
// Lookups allocate nothing.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

namespace leap {

struct Range {
  uint32_t space;
  uint32_t first;  // page index of the page at `start`
  uint64_t start;  // virtual page number
  uint64_t count;

  uint64_t end() const { return start + count; }
};

class Ranges {
 public:
  // Pages first... stand at start... Whatever either side was bound to before is forgotten.
  void bind(uint32_t space, uint64_t start, uint64_t count, uint32_t first);
  void unbind(uint32_t space, uint64_t start, uint64_t count);
  void drop(uint32_t space);

  // The range that holds the page; null when none does.
  const Range* ofPage(uint32_t page) const;
  const Range* ofVpn(uint32_t space, uint64_t vpn) const;

  size_t size() const { return byPage_.size(); }

 private:
  void unbindPages(uint32_t first, uint64_t count);
  void sort();

  std::vector<Range> byPage_;
  std::vector<Range> byVpn_;
  mutable size_t lastPage_ = 0;
  mutable size_t lastVpn_ = 0;
};

}  // namespace leap
