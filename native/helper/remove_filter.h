// Tells the REMOVE events of our own discards from the target's, which may come for the same pages at the same time.
//
// madvise raises an event for each mapping that its range lies in, and once more for what a mapping has lost meanwhile
// (mprotect splits and joins them while it waits for the event to be read): of a range of several pages nobody can tell
// which events are its own. So each page is discarded by itself. That raises one event, of this page alone. One of the
// target's own may be equal to it; then it does not matter which of the two is passed on. But for pages that were not
// discarded in the end none is ours, and that is known only then: until then the events that change mappings are held,
// all of them, since their order matters.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/layout.h"
#include "uffd/uffd_abi.h"

namespace leap {

class RemoveFilter {
 public:
  RemoveFilter() { held_.reserve(2 * kBatchPages); }

  void clear() {
    count_ = 0;
    held_.clear();
  }

  // We are about to discard this page; at most kBatchPages.
  void expect(uint64_t page) { pages_[count_++] = {page, false}; }

  // Keeps an event that changes mappings. False when it is the target's for certain.
  bool hold(const uffd_msg& message) {
    held_.push_back(message);
    return find(message) != nullptr;
  }

  // Whether the discard of the i-th page has raised its event.
  void raised(size_t i, bool has) { pages_[i].raised = has; }

  // Gives the sink what is the target's of the events held, in their order.
  template <class Sink>
  void passOn(Sink& sink) {
    for (const uffd_msg& message : held_) {
      Page* page = find(message);
      if (page && page->raised) {
        page->raised = false;
      } else {
        sink.message(message);
      }
    }
    held_.clear();
  }

 private:
  struct Page {
    uint64_t address;
    bool raised;
  };

  Page* find(const uffd_msg& message) {
    if (message.event != UFFD_EVENT_REMOVE || message.arg.remove.end != message.arg.remove.start + kPageSize)
      return nullptr;
    for (size_t i = 0; i < count_; i++) {
      if (pages_[i].address == message.arg.remove.start) return &pages_[i];
    }
    return nullptr;
  }

  size_t count_ = 0;
  Page pages_[kBatchPages]{};
  std::vector<uffd_msg> held_;  // grows only for a target that storms us with events
};

}  // namespace leap
