// Paged: a target under a pager of the simplest kind, for tests of the helper.
#pragma once
#include <poll.h>
#include <sys/ioctl.h>
#include <algorithm>
#include <cerrno>
#include <utility>
#include <vector>

#include "attach/attach.h"
#include "check.h"
#include "target.h"

namespace test {

using namespace leap;

constexpr uint64_t kPage = kPageSize;
constexpr size_t kPages = 256;

// What page i holds in every target here.
inline uint64_t word(size_t page, size_t i) { return page * 0x9e3779b97f4a7c15ull + i + 1; }
inline void fill(uint64_t* memory, size_t pages) {
  for (size_t page = 0; page < pages; page++) {
    for (size_t i = 0; i < kPage / 8; i++) memory[page * (kPage / 8) + i] = word(page, i);
  }
}
inline bool holds(const uint8_t* bytes, size_t page) {
  const auto* words = reinterpret_cast<const uint64_t*>(bytes);
  for (size_t i = 0; i < kPage / 8; i++) {
    if (words[i] != word(page, i)) return false;
  }
  return true;
}

inline uint64_t* map(size_t pages) {
  void* at = mmap(nullptr, pages * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  madvise(at, pages * kPage, MADV_NOHUGEPAGE);
  return static_cast<uint64_t*>(at);
}

// In a target: maps and fills kPages pages, says where they are, waits until told to go.
inline uint64_t* prepare(Shared& shared) {
  uint64_t* memory = map(kPages);
  fill(memory, kPages);
  shared.address = reinterpret_cast<uint64_t>(memory);
  shared.ready = 1;
  while (!shared.go) sleepMs(1);
  return memory;
}

inline bool holdsAll(const uint64_t* memory) {
  for (size_t page = 0; page < kPages; page++) {
    if (!holds(reinterpret_cast<const uint8_t*>(memory) + page * kPage, page)) return false;
  }
  return true;
}

// A target that verifies its pages when told to go.
inline int holder(Shared& shared) {
  if (!holdsAll(prepare(shared))) return 4;
  shared.ready = 2;
  while (!shared.stop) sleepMs(1);
  return 0;
}

struct Collected : Helper::Sink {
  void message(const uffd_msg& message) override { messages.push_back(message); }
  std::vector<uffd_msg> messages;
};

// A target under a pager of the simplest kind: all it took away it keeps by page number, and gives back when asked.
class Paged {
 public:
  Paged(const std::function<int(Shared&)>& body, bool move, bool vector, size_t pages = kPages)
      : target(body), pages_(pages) {
    target.awaitReady();
    base = target->address;
    attached = attach(target.pid(), {move, vector});
    uffdio_register request{{base, pages * kPage}, UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_WP, 0};
    if (ioctl(attached.uffd, UFFDIO_REGISTER, &request)) check::fail(__FILE__, __LINE__, "register");
    store = static_cast<uint8_t*>(aligned_alloc(kPage, pages * kPage));
    out.assign(pages, false);
  }
  ~Paged() {
    abandon(attached);
    free(store);
  }
  // Takes scattered pages, given as [first, count) runs, `way` 'm' or 'd'. Returns the statuses.
  std::vector<int> take(char way, const std::vector<std::pair<size_t, uint32_t>>& wanted, bool* alive = nullptr) {
    std::vector<Helper::Run> runs;
    size_t total = 0;
    for (const auto& [first, count] : wanted) {
      runs.push_back({base + first * kPage, count, store + first * kPage});
      total += count;
    }
    std::vector<int> status(total, 12345);
    const bool well = way == 'm' ? attached.helper->moveOut(runs.data(), runs.size(), status.data())
                                 : attached.helper->discard(runs.data(), runs.size(), status.data(), sink);
    if (alive) *alive = well;
    size_t k = 0;
    for (const auto& [first, count] : wanted) {
      for (uint32_t i = 0; i < count; i++, k++) {
        if (status[k] == 0) out[first + i] = true;
      }
    }
    return status;
  }
  int give(size_t page) {
    uffdio_copy copy{base + page * kPage, reinterpret_cast<uint64_t>(store + page * kPage), kPage, 0, 0};
    const int error = ioctl(attached.uffd, UFFDIO_COPY, &copy) ? errno : 0;
    if (error == 0) out[page] = false;
    return error;
  }
  // Serves faults until `done`, at most some seconds.
  bool serve(const std::function<bool()>& done, int ms = 5000) {
    for (int i = 0; i < ms; i++) {
      if (done()) return true;  // what has been seen once need not be so a moment later
      pollfd wait{attached.uffd, POLLIN, 0};
      if (poll(&wait, 1, 1) > 0) {
        uffd_msg messages[16];
        const ssize_t got = read(attached.uffd, messages, sizeof messages);
        for (ssize_t k = 0; k < got / static_cast<ssize_t>(sizeof(uffd_msg)); k++) handle(messages[k]);
      }
      for (const uffd_msg& message : sink.messages) handle(message);
      sink.messages.clear();
    }
    return done();
  }
  void handle(const uffd_msg& message) {
    if (message.event != UFFD_EVENT_PAGEFAULT) {
      others.push_back(message);
      return;
    }
    const size_t page = (message.arg.pagefault.address - base) / kPage;
    if (out[page]) {
      if (give(page) == EEXIST) out[page] = false;
    } else if (message.arg.pagefault.flags & UFFD_PAGEFAULT_FLAG_WP) {
      uffdio_writeprotect off{{base + page * kPage, kPage}, 0};
      ioctl(attached.uffd, UFFDIO_WRITEPROTECT, &off);
    } else {
      uffdio_zeropage zero{{base + page * kPage, kPage}, 0, 0};
      if (ioctl(attached.uffd, UFFDIO_ZEROPAGE, &zero)) {
        uffdio_range range{base + page * kPage, kPage};
        ioctl(attached.uffd, UFFDIO_WAKE, &range);
      }
    }
  }
  void restoreAndDetach() {
    for (size_t page = 0; page < pages_; page++) {
      if (out[page]) give(page);
    }
    uffdio_range range{base, pages_ * kPage};
    if (ioctl(attached.uffd, UFFDIO_UNREGISTER, &range)) check::fail(__FILE__, __LINE__, "unregister");
    detach(attached);
  }
  // Of a target that runs holder().
  void verifyAndDetach() {
    target->go = 1;
    CHECK(serve([&] { return target->ready == 2; }));
    restoreAndDetach();
  }
  bool present(size_t page) {
    const int fd = open(proc::path(target.pid(), "pagemap").c_str(), O_RDONLY);
    uint64_t entry = 0;
    (void)!pread(fd, &entry, 8, static_cast<off_t>((base / kPage + page) * 8));
    close(fd);
    return entry >> 62 != 0;  // in a frame, or on its way from one to another
  }

  Target target;
  uint64_t base = 0;
  Attached attached;
  uint8_t* store = nullptr;
  std::vector<bool> out;
  Collected sink;
  std::vector<uffd_msg> others;

 private:
  size_t pages_;
};

inline bool all(const std::vector<int>& statuses, int value) {
  return std::all_of(statuses.begin(), statuses.end(), [value](int status) { return status == value; });
}

inline void needMove() {
  if (!(probeFeatures() & UFFD_FEATURE_MOVE)) throw check::Skip("no UFFDIO_MOVE (Linux 6.8)");
}

}  // namespace test
