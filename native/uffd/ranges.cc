#include "uffd/ranges.h"

#include <algorithm>
#include <tuple>

namespace leap {
namespace {

bool holdsPage(const Range& range, uint32_t page) { return page >= range.first && page - range.first < range.count; }

bool holdsVpn(const Range& range, uint32_t space, uint64_t vpn) {
  return range.space == space && vpn >= range.start && vpn - range.start < range.count;
}

// What is left of `range` when `count` pages from `skip` are cut out of it: nothing, one piece or two.
void keepRest(const Range& range, uint64_t skip, uint64_t count, std::vector<Range>* kept) {
  if (skip > 0) kept->push_back({range.space, range.first, range.start, skip});
  uint64_t after = skip + count;
  if (after < range.count)
    kept->push_back(
        {range.space, static_cast<uint32_t>(range.first + after), range.start + after, range.count - after});
}

// Cuts [from, to) out of every range, as `placeOf` measures it (a range's position on the axis that is cut).
template <typename PlaceOf>
void cut(std::vector<Range>* ranges, uint64_t from, uint64_t to, PlaceOf placeOf) {
  std::vector<Range> kept;
  kept.reserve(ranges->size() + 1);
  for (const Range& range : *ranges) {
    uint64_t place = 0;
    bool applies = placeOf(range, &place);
    uint64_t low = std::max(from, place), high = std::min(to, place + range.count);
    if (!applies || low >= high) {
      kept.push_back(range);
    } else {
      keepRest(range, low - place, high - low, &kept);
    }
  }
  ranges->swap(kept);
}

}  // namespace

void Ranges::bind(uint32_t space, uint64_t start, uint64_t count, uint32_t first) {
  if (count == 0) return;
  unbind(space, start, count);
  unbindPages(first, count);
  byPage_.push_back({space, first, start, count});
  sort();
}

void Ranges::unbind(uint32_t space, uint64_t start, uint64_t count) {
  cut(&byPage_, start, start + count, [space](const Range& range, uint64_t* place) {
    *place = range.start;
    return range.space == space;
  });
  sort();
}

void Ranges::unbindPages(uint32_t first, uint64_t count) {
  cut(&byPage_, first, first + count, [](const Range& range, uint64_t* place) {
    *place = range.first;
    return true;
  });
}

void Ranges::drop(uint32_t space) {
  byPage_.erase(
      std::remove_if(byPage_.begin(), byPage_.end(), [space](const Range& range) { return range.space == space; }),
      byPage_.end());
  sort();
}

// Orders both arrays and joins ranges that go on where their neighbour ends, on both axes.
void Ranges::sort() {
  std::sort(byPage_.begin(), byPage_.end(), [](const Range& a, const Range& b) { return a.first < b.first; });
  size_t kept = 0;
  for (size_t i = 0; i < byPage_.size(); i++) {
    Range range = byPage_[i];
    Range* last = kept > 0 ? &byPage_[kept - 1] : nullptr;
    if (last && last->space == range.space && last->first + last->count == range.first && last->end() == range.start) {
      last->count += range.count;
    } else {
      byPage_[kept++] = range;
    }
  }
  byPage_.resize(kept);
  byVpn_ = byPage_;
  std::sort(byVpn_.begin(), byVpn_.end(),
            [](const Range& a, const Range& b) { return std::tie(a.space, a.start) < std::tie(b.space, b.start); });
  lastPage_ = lastVpn_ = 0;
}

const Range* Ranges::ofPage(uint32_t page) const {
  if (lastPage_ < byPage_.size() && holdsPage(byPage_[lastPage_], page)) return &byPage_[lastPage_];
  auto after = std::upper_bound(byPage_.begin(), byPage_.end(), page,
                                [](uint32_t value, const Range& range) { return value < range.first; });
  if (after == byPage_.begin() || !holdsPage(*(after - 1), page)) return nullptr;
  lastPage_ = static_cast<size_t>(after - byPage_.begin()) - 1;
  return &byPage_[lastPage_];
}

const Range* Ranges::ofVpn(uint32_t space, uint64_t vpn) const {
  if (lastVpn_ < byVpn_.size() && holdsVpn(byVpn_[lastVpn_], space, vpn)) return &byVpn_[lastVpn_];
  auto after = std::upper_bound(byVpn_.begin(), byVpn_.end(), std::make_pair(space, vpn),
                                [](const auto& value, const Range& range) {
                                  return std::tie(value.first, value.second) < std::tie(range.space, range.start);
                                });
  if (after == byVpn_.begin() || !holdsVpn(*(after - 1), space, vpn)) return nullptr;
  lastVpn_ = static_cast<size_t>(after - byVpn_.begin()) - 1;
  return &byVpn_[lastVpn_];
}

}  // namespace leap
