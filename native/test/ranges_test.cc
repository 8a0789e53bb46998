// The range table against a naive model: two maps with one entry a page.
#include "uffd/ranges.h"

#include <map>
#include <random>

#include "expect.h"

using leap::Range;
using leap::Ranges;

namespace {

struct Model {
  std::map<std::pair<uint32_t, uint64_t>, uint32_t> pageAt;  // (space, vpn) -> page
  std::map<uint32_t, std::pair<uint32_t, uint64_t>> placeOf;

  void unbindOne(uint32_t space, uint64_t vpn) {
    auto found = pageAt.find({space, vpn});
    if (found == pageAt.end()) return;
    placeOf.erase(found->second);
    pageAt.erase(found);
  }
  void unbind(uint32_t space, uint64_t start, uint64_t count) {
    for (uint64_t i = 0; i < count; i++) unbindOne(space, start + i);
  }
  void bind(uint32_t space, uint64_t start, uint64_t count, uint32_t first) {
    unbind(space, start, count);
    for (uint32_t i = 0; i < count; i++) {
      auto old = placeOf.find(first + i);
      if (old != placeOf.end()) unbindOne(old->second.first, old->second.second);
    }
    for (uint32_t i = 0; i < count; i++) {
      pageAt[{space, start + i}] = first + i;
      placeOf[first + i] = {space, start + i};
    }
  }
  void drop(uint32_t space) {
    for (auto at = pageAt.begin(); at != pageAt.end();) {
      if (at->first.first == space) {
        placeOf.erase(at->second);
        at = pageAt.erase(at);
      } else {
        ++at;
      }
    }
  }
};

void compare(const Ranges& ranges, const Model& model, uint64_t pages, uint64_t vpns) {
  for (uint32_t page = 0; page < pages; page++) {
    const Range* range = ranges.ofPage(page);
    auto found = model.placeOf.find(page);
    EXPECT((range != nullptr) == (found != model.placeOf.end()));
    if (range && found != model.placeOf.end())
      EXPECT(range->space == found->second.first && range->start + (page - range->first) == found->second.second);
  }
  for (uint32_t space = 0; space < 3; space++) {
    for (uint64_t vpn = 0; vpn < vpns; vpn++) {
      const Range* range = ranges.ofVpn(space, vpn);
      auto found = model.pageAt.find({space, vpn});
      EXPECT((range != nullptr) == (found != model.pageAt.end()));
      if (range && found != model.pageAt.end())
        EXPECT(range->space == space && range->first + (vpn - range->start) == found->second);
    }
  }
}

void againstModel() {
  constexpr uint64_t kPages = 60, kVpns = 80;
  for (uint32_t seed = 1; seed <= 40; seed++) {
    std::mt19937 dice(seed);
    auto upTo = [&dice](uint64_t limit) { return static_cast<uint32_t>(dice() % limit); };
    Ranges ranges;
    Model model;
    for (int step = 0; step < 60; step++) {
      uint32_t space = upTo(3), count = 1 + upTo(16);
      uint64_t start = upTo(kVpns - count);
      switch (upTo(8)) {
        case 0: ranges.drop(space), model.drop(space); break;
        case 1:
        case 2:
        case 3: ranges.unbind(space, start, count), model.unbind(space, start, count); break;
        default:
          uint32_t first = upTo(kPages - count);
          ranges.bind(space, start, count, first), model.bind(space, start, count, first);
      }
      compare(ranges, model, kPages, kVpns);
    }
  }
}

void joins() {
  Ranges ranges;
  ranges.bind(0, 100, 10, 0);
  ranges.bind(0, 110, 5, 10);
  EXPECT(ranges.size() == 1);
  ranges.bind(1, 115, 5, 15);  // next page, another space
  EXPECT(ranges.size() == 2);
  ranges.unbind(0, 104, 2);
  EXPECT(ranges.size() == 3);
  EXPECT(ranges.ofPage(4) == nullptr && ranges.ofVpn(0, 105) == nullptr);
  EXPECT(ranges.ofPage(6) != nullptr && ranges.ofPage(6)->start == 106);
}

void farPages() {
  Ranges ranges;
  uint64_t high = (1ull << 35) + 7;
  ranges.bind(0, high, 4, 0xfffffff0u);
  EXPECT(ranges.ofVpn(0, high + 3) != nullptr && ranges.ofVpn(0, high + 4) == nullptr);
  EXPECT(ranges.ofPage(0xfffffff3u) != nullptr && ranges.ofPage(0xfffffff4u) == nullptr && ranges.ofPage(0) == nullptr);
}

}  // namespace

int main() {
  leap::testing::run("ranges against a model", againstModel);
  leap::testing::run("ranges that go on are joined", joins);
  leap::testing::run("ranges at the ends of their numbers", farPages);
  return leap::testing::failed;
}
