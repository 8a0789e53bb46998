// The helper's two ways to take pages away: contents, refusals, racing writers, events, death.
#include "../helper.h"

#include <poll.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <algorithm>
#include <cerrno>
#include <thread>

#include "../attach.h"
#include "../remove_filter.h"
#include "check.h"
#include "target.h"

using namespace leap;
using test::Shared;
using test::sleepMs;
using test::Target;

namespace {

constexpr uint64_t kPage = kPageSize;
constexpr size_t kPages = 256;

// What page i holds in every target here.
uint64_t word(size_t page, size_t i) { return page * 0x9e3779b97f4a7c15ull + i + 1; }
void fill(uint64_t* memory, size_t pages) {
  for (size_t page = 0; page < pages; page++) {
    for (size_t i = 0; i < kPage / 8; i++) memory[page * (kPage / 8) + i] = word(page, i);
  }
}
bool holds(const uint8_t* bytes, size_t page) {
  const auto* words = reinterpret_cast<const uint64_t*>(bytes);
  for (size_t i = 0; i < kPage / 8; i++) {
    if (words[i] != word(page, i)) return false;
  }
  return true;
}

uint64_t* map(size_t pages) {
  void* at = mmap(nullptr, pages * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  madvise(at, pages * kPage, MADV_NOHUGEPAGE);
  return static_cast<uint64_t*>(at);
}

// Fills kPages pages, says where they are, verifies them all when told to, ends.
int holder(Shared& shared) {
  uint64_t* memory = map(kPages);
  fill(memory, kPages);
  shared.address = reinterpret_cast<uint64_t>(memory);
  shared.ready = 1;
  while (!shared.go) sleepMs(1);
  for (size_t page = 0; page < kPages; page++) {
    if (!holds(reinterpret_cast<uint8_t*>(memory) + page * kPage, page)) return 4;
  }
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
  Paged(const std::function<int(Shared&)>& body, bool move, bool vector, size_t pages = kPages) : target(body), pages_(pages) {
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
    for (int i = 0; i < ms && !done(); i++) {
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
  bool present(size_t page) {
    const int fd = open(proc::path(target.pid(), "pagemap").c_str(), O_RDONLY);
    uint64_t entry = 0;
    (void)!pread(fd, &entry, 8, static_cast<off_t>((base / kPage + page) * 8));
    close(fd);
    return entry >> 63;
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

bool all(const std::vector<int>& statuses, int value) {
  return std::all_of(statuses.begin(), statuses.end(), [value](int status) { return status == value; });
}

void needMove() {
  if (!(probeFeatures() & UFFD_FEATURE_MOVE)) throw check::Skip("no UFFDIO_MOVE (Linux 6.8)");
}

// Whole runs and scattered pages away and back, several batches, contents checked on both sides.
void contents(char way, bool vector) {
  Paged paged(holder, way == 'm', vector);
  if (way == 'm' && !paged.attached.helper->canMove()) throw check::Skip("no UFFDIO_MOVE (Linux 6.8)");
  if (way == 'd' && vector && !paged.attached.helper->canVector()) throw check::Skip("no process_madvise(MADV_DONTNEED) (Linux 6.13)");
  CHECK_EQUAL(paged.attached.helper->canMove(), way == 'm');
  if (!vector) CHECK(!paged.attached.helper->canVector());
  for (int round = 0; round < 3; round++) {
    CHECK(all(paged.take(way, {{0, 64}}), 0));
    std::vector<std::pair<size_t, uint32_t>> scattered;
    for (size_t page = 65; page < 193; page += 2) scattered.push_back({page, 1});
    CHECK(all(paged.take(way, scattered), 0));
    CHECK(all(paged.take(way, {{200, 5}, {210, 1}, {220, 20}}), 0));
    CHECK(paged.sink.messages.empty());
    for (size_t page = 0; page < kPages; page++) {
      CHECK(paged.present(page) != paged.out[page]);
      if (paged.out[page]) CHECK(holds(paged.store + page * kPage, page));
    }
    for (size_t page = 0; page < kPages; page++) {
      if (paged.out[page] && (round < 2 || page % 3)) CHECK_EQUAL(paged.give(page), 0);
    }
  }
  paged.target->go = 1;
  CHECK(paged.serve([&] { return paged.target->ready == 2; }));
  CHECK(all(paged.take(way, {{0, 10}}), 0));
  paged.restoreAndDetach();
  paged.target->stop = 1;
  CHECK_EQUAL(paged.target.join(), 0);
}

void absentPages(char way) {
  Paged paged(holder, way == 'm', true);
  CHECK(all(paged.take(way, {{10, 4}}), 0));
  // Absent at the front, in the middle, at the end of a run, and a run that is all absent.
  CHECK(paged.take(way, {{8, 8}, {10, 2}, {20, 1}}) == std::vector<int>({0, 0, ENOENT, ENOENT, ENOENT, ENOENT, 0, 0, ENOENT, ENOENT, 0}));
  CHECK(holds(paged.store + 8 * kPage, 8) && holds(paged.store + 15 * kPage, 15) && holds(paged.store + 20 * kPage, 20));
  CHECK(all(paged.take(way, {{8, 8}, {20, 1}}), ENOENT));
  CHECK(all(paged.take(way, {{30, 1}}), 0));
  CHECK(paged.sink.messages.empty());
  paged.target->go = 1;
  CHECK(paged.serve([&] { return paged.target->ready == 2; }));
  paged.restoreAndDetach();
  paged.target->stop = 1;
  CHECK_EQUAL(paged.target.join(), 0);
}

// PROT_NONE: a move is refused, a discard goes by /proc/PID/mem; the page comes back under the same protection.
void protNone(char way) {
  Paged paged(
      [](Shared& shared) {
        uint64_t* memory = map(kPages);
        fill(memory, kPages);
        mprotect(memory + 16 * (kPage / 8), 16 * kPage, PROT_NONE);
        shared.address = reinterpret_cast<uint64_t>(memory);
        shared.ready = 1;
        while (!shared.go) sleepMs(1);
        mprotect(memory + 16 * (kPage / 8), 16 * kPage, PROT_READ | PROT_WRITE);
        for (size_t page = 0; page < 64; page++) {
          if (!holds(reinterpret_cast<uint8_t*>(memory) + page * kPage, page)) return 4;
        }
        return 0;
      },
      way == 'm', true);
  const std::vector<int> statuses = paged.take(way, {{14, 4}, {24, 1}});
  if (way == 'm') {
    CHECK(statuses == std::vector<int>({0, 0, EINVAL, EINVAL, EINVAL}));
  } else {
    CHECK(all(statuses, 0));
    CHECK(holds(paged.store + 16 * kPage, 16) && holds(paged.store + 24 * kPage, 24));
    CHECK(paged.sink.messages.empty());
  }
  for (size_t page : {14, 15, 16, 17, 24}) {
    if (paged.out[page]) CHECK_EQUAL(paged.give(page), 0);
  }
  paged.restoreAndDetach();
  paged.target->go = 1;
  CHECK_EQUAL(paged.target.join(), 0);
}

// After fork the pages are shared: a move refuses (EBUSY), page for page; a discard takes the parent's, and the child keeps its own.
void forkShared(char way) {
  Paged paged(
      [](Shared& shared) {
        uint64_t* memory = map(kPages);
        fill(memory, kPages);
        const pid_t child = fork();  // before the attach: the child is no concern of the pager's
        if (child == 0) {
          while (!shared.extra) sleepMs(1);
          for (size_t page = 0; page < kPages; page++) {
            if (!holds(reinterpret_cast<uint8_t*>(memory) + page * kPage, page)) _exit(5);
          }
          _exit(0);
        }
        for (size_t page = 0; page < kPages; page += 4) memory[page * (kPage / 8)] = word(page, 0);  // its own again
        shared.address = reinterpret_cast<uint64_t>(memory);
        shared.ready = 1;
        while (!shared.go) sleepMs(1);
        int status = -1;
        waitpid(child, &status, 0);
        for (size_t page = 0; page < kPages; page++) {
          if (!holds(reinterpret_cast<uint8_t*>(memory) + page * kPage, page)) return 4;
        }
        return WEXITSTATUS(status);
      },
      way == 'm', true);
  const std::vector<int> statuses = paged.take(way, {{0, 64}});
  for (size_t page = 0; page < 64; page++) {
    CHECK_EQUAL(statuses[page], way == 'm' && page % 4 ? EBUSY : 0);
    if (statuses[page] == 0) CHECK(holds(paged.store + page * kPage, page));
  }
  paged.target->extra = 1;
  paged.restoreAndDetach();
  paged.target->go = 1;
  CHECK_EQUAL(paged.target.join(), 0);
}

// A thread of the target increments counters in all pages all the time while pages are taken and given back: no increment may be lost.
void racingWriter(char way, bool vector) {
  constexpr size_t kRacing = 32;
  Paged paged(
      [](Shared& shared) {
        auto* memory = static_cast<volatile uint64_t*>(map(kRacing));
        for (size_t page = 0; page < kRacing; page++) memory[page * (kPage / 8)] = 0;
        shared.address = reinterpret_cast<uint64_t>(memory);
        shared.ready = 1;
        uint64_t rounds = 0;
        while (!shared.stop) {
          rounds++;
          for (size_t page = 0; page < kRacing; page++) memory[page * (kPage / 8)] = memory[page * (kPage / 8)] + 1;
          shared.counter++;
        }
        for (size_t page = 0; page < kRacing; page++) {
          if (memory[page * (kPage / 8)] != rounds) return 4;
        }
        return 0;
      },
      way == 'm', vector, kRacing);
  size_t taken = 0;
  for (int i = 0; i < 400; i++) {
    for (int status : paged.take(way, {{static_cast<size_t>(i % 8), 4}, {12, 1}, {16, static_cast<uint32_t>(1 + i % 16)}})) taken += status == 0;
    const long before = paged.target->counter;
    CHECK(paged.serve([&] { return paged.target->counter > before; }));
  }
  CHECK(taken > 1000);
  CHECK(paged.others.empty());
  paged.restoreAndDetach();
  paged.target->stop = 1;
  CHECK_EQUAL(paged.target.join(), 0);
}

}  // namespace

TEST(move_keeps_contents) {
  needMove();
  contents('m', true);
}
TEST(discard_vectored_keeps_contents) { contents('d', true); }
TEST(discard_one_call_a_run_keeps_contents) { contents('d', false); }
TEST(move_reports_absent_pages) {
  needMove();
  absentPages('m');
}
TEST(discard_reports_absent_pages) { absentPages('d'); }
TEST(move_of_prot_none_is_refused) {
  needMove();
  protNone('m');
}
TEST(discard_takes_prot_none) { protNone('d'); }
TEST(move_of_pages_shared_after_fork_is_refused) {
  needMove();
  forkShared('m');
}
TEST(discard_of_pages_shared_after_fork) { forkShared('d'); }
TEST(move_loses_no_write) {
  needMove();
  racingWriter('m', true);
}
TEST(discard_vectored_loses_no_write) { racingWriter('d', true); }
TEST(discard_one_call_a_run_loses_no_write) { racingWriter('d', false); }


// The target discards pages itself, all the time, some of them the very ones that we discard: each of its calls must reach us as one event, no more.
static void ownRemoves(bool vector) {
  Paged paged(
      [](Shared& shared) {
        uint64_t* memory = map(kPages);
        fill(memory, kPages);
        shared.address = reinterpret_cast<uint64_t>(memory);
        shared.ready = 1;
        while (!shared.go) sleepMs(1);
        for (unsigned i = 0; !shared.stop; i++) {
          const unsigned first = i % 5, pages = 1 + i % 4;
          shared.counter++;
          madvise(reinterpret_cast<uint8_t*>(memory) + first * kPage, pages * kPage, MADV_DONTNEED);
          shared.extra++;
          for (unsigned page = first; page < first + pages; page++) memory[page * (kPage / 8)] = i;
        }
        return 0;
      },
      false, vector);
  paged.target->go = 1;
  size_t seen = 0, taken = 0;
  const auto count = [&] {
    for (const uffd_msg& message : paged.others) {
      CHECK_EQUAL(static_cast<int>(message.event), UFFD_EVENT_REMOVE);
      seen++;
      for (uint64_t at = message.arg.remove.start; at < message.arg.remove.end; at += kPage) paged.out[(at - paged.base) / kPage] = false;
    }
    paged.others.clear();
  };
  for (int i = 0; i < 600; i++) {
    for (int status : paged.take('d', {{static_cast<size_t>(i % 5), static_cast<uint32_t>(1 + i / 5 % 4)}, {40 + static_cast<size_t>(i % 3), 2}})) taken += status == 0;
    const long before = paged.target->extra;
    paged.serve([&] { return paged.target->extra > before; }, 50);
    count();
    for (size_t page = 40; page < 44; page++) {
      for (int error = EAGAIN; paged.out[page] && error; count()) {
        error = paged.give(page);
        CHECK(error == 0 || error == EAGAIN);
        paged.serve([] { return false; }, 1);
      }
    }
  }
  paged.target->stop = 1;
  paged.serve([&] { return proc::state(paged.target.pid(), paged.target.pid()) == 'Z'; });
  count();
  CHECK_EQUAL(static_cast<long>(seen), static_cast<long>(paged.target->counter));
  CHECK(taken > 500);
}
TEST(removes_of_the_target_itself_are_passed_on_vectored) { ownRemoves(true); }
TEST(removes_of_the_target_itself_are_passed_on_one_call_a_run) { ownRemoves(false); }

TEST(discard_across_two_mappings_swallows_both_events) {
  for (const bool vector : {true, false}) {
    Paged paged(
        [](Shared& shared) {
          uint64_t* memory = map(kPages);
          fill(memory, kPages);
          mprotect(memory + 10 * (kPage / 8), 10 * kPage, PROT_READ);
          shared.address = reinterpret_cast<uint64_t>(memory);
          return shared.ready = 1, holder(shared);
        },
        false, vector);
    CHECK(all(paged.take('d', {{8, 4}, {18, 4}, {30, 1}}), 0));
    CHECK(paged.sink.messages.empty());
  }
}

// The target has unmapped pages and its event is not read yet: nothing may be taken, and the event must get through.
TEST(nothing_is_taken_while_mappings_change) {
  for (const char way : {'m', 'd'}) {
    if (way == 'm') needMove();
    Paged paged(
        [](Shared& shared) {
          uint64_t* memory = map(kPages);
          fill(memory, kPages);
          shared.address = reinterpret_cast<uint64_t>(memory);
          shared.ready = 1;
          while (!shared.go) sleepMs(1);
          shared.ready = 2;
          munmap(memory, 4 * kPage);
          return shared.ready = 3, 0;
        },
        way == 'm', true);
    paged.target->go = 1;
    paged.target.awaitReady(2);
    paged.target.awaitState('D');
    CHECK(all(paged.take(way, {{2, 4}, {8, 1}}), EAGAIN));
    if (paged.sink.messages.empty()) paged.serve([&] { return !paged.others.empty(); });
    CHECK(paged.target->ready == 3 || test::waitFor([&] { return paged.target->ready == 3; }));
    CHECK_EQUAL(paged.target.join(), 0);
  }
}

TEST(huge_pages_are_split_and_taken) {
  for (const char way : {'m', 'd'}) {
    if (way == 'm') needMove();
    Paged paged(
        [](Shared& shared) {
          constexpr size_t kHuge = 2 << 20;
          auto* at = static_cast<uint8_t*>(mmap(nullptr, 2 * kHuge, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
          at = reinterpret_cast<uint8_t*>((reinterpret_cast<uint64_t>(at) + kHuge - 1) & ~(kHuge - 1));
          madvise(at, kHuge, MADV_HUGEPAGE);
          auto* memory = reinterpret_cast<uint64_t*>(at);
          fill(memory, kHuge / kPage);
          shared.address = reinterpret_cast<uint64_t>(memory);
          shared.ready = 1;
          while (!shared.go) sleepMs(1);
          for (size_t page = 0; page < kHuge / kPage; page++) {
            if (!holds(at + page * kPage, page)) return 4;
          }
          return 0;
        },
        way == 'm', true, 512);
    CHECK(all(paged.take(way, {{3, 5}, {100, 1}, {300, 50}}), 0));
    for (size_t page : {3, 7, 100, 300, 349}) CHECK(holds(paged.store + page * kPage, page) && !paged.present(page));
    CHECK(paged.present(2) && paged.present(8) && paged.present(101));
    paged.restoreAndDetach();
    paged.target->go = 1;
    CHECK_EQUAL(paged.target.join(), 0);
  }
}

// Signals to the helper, whatever they are short of SIGKILL, are not for it.
TEST(signals_to_the_helper_change_nothing) {
  for (const char way : {'m', 'd'}) {
    if (way == 'm') needMove();
    Paged paged(holder, way == 'm', true);
    std::atomic<bool> over{false};
    std::thread sender([&] {
      const int signals[] = {SIGSTOP, SIGTRAP, SIGTERM, SIGCONT, SIGSEGV, SIGINT};
      for (int i = 0; !over; i++) {
        kill(paged.attached.helper->pid(), signals[i % 6]);
        std::this_thread::sleep_for(std::chrono::microseconds(30));
      }
    });
    bool well = true;
    for (int i = 0; i < 100 && well; i++) {
      well = all(paged.take(way, {{0, 20}, {30, 1}, {40, 1}}), 0);
      for (size_t page = 0; page < 64; page++) well = well && (!paged.out[page] || paged.give(page) == 0);
    }
    over = true;
    sender.join();
    CHECK(well);
    paged.target->go = 1;
    CHECK(paged.serve([&] { return paged.target->ready == 2; }));
    paged.restoreAndDetach();
  }
}

// The helper is killed in the midst of its work, at another moment each time: what counts as taken is in our hands, the rest is still there.
TEST(a_killed_helper_loses_nothing) {
  int midway = 0;
  for (int i = 0; i < 40; i++) {
    const char way = i % 2 ? 'd' : 'm';
    if (way == 'm') needMove();
    Paged paged(holder, way == 'm', i % 4 == 1);
    const std::string before = test::snapshot(paged.target.pid());
    const pid_t helper = paged.attached.helper->pid();
    std::atomic<bool> begun{false};
    std::thread killer([&] {
      while (!begun) sched_yield();
      std::this_thread::sleep_for(std::chrono::microseconds(20 * i));
      kill(helper, SIGKILL);
    });
    bool alive = true;
    int batches = 0;
    for (; alive && batches < 100000; batches++) {
      std::vector<std::pair<size_t, uint32_t>> wanted;
      for (size_t page = 0; page < 64; page++) wanted.push_back({2 * page, 1});
      begun = true;
      const std::vector<int> statuses = paged.take(way, wanted, &alive);
      const auto done = std::count(statuses.begin(), statuses.end(), 0);
      midway += !alive && done > 0 && done < 64;
      for (size_t page = 0; page < kPages; page++) {
        if (!paged.out[page]) continue;
        CHECK(holds(paged.store + page * kPage, page) && !paged.present(page));
        if (alive) CHECK_EQUAL(paged.give(page), 0);
      }
      for (size_t k = 0; k < statuses.size(); k++) {
        CHECK(statuses[k] == 0 || statuses[k] == EIO);
        if (statuses[k]) CHECK(paged.present(2 * k));
      }
    }
    killer.join();
    CHECK(!alive && paged.attached.helper->lost());
    CHECK(all(paged.take(way, {{0, 3}}), EIO));
    if (i % 3 == 0) paged.attached.helper.reset();
    paged.target->go = 1;
    CHECK(paged.serve([&] { return paged.target->ready == 2; }));
    paged.restoreAndDetach();
    CHECK(proc::children(paged.target.pid()).empty());
    paged.target->stop = 1;
    CHECK_EQUAL(paged.target.join(), 0);
  }
  std::printf("# killed in the midst of a batch: %d of 40\n", midway);
}

// A target that unmaps our pages harms itself, not us: the helper is lost, in bounded time.
TEST(our_pages_unmapped_by_the_target) {
  needMove();
  Paged paged(
      [](Shared& shared) {
        uint64_t* memory = map(kPages);
        fill(memory, kPages);
        shared.address = reinterpret_cast<uint64_t>(memory);
        shared.ready = 1;
        while (!shared.go) sleepMs(1);
        munmap(reinterpret_cast<void*>(shared.extra.load()), static_cast<size_t>(shared.counter.load()));
        return shared.ready = 2, 0;
      },
      true, true);
  paged.target->extra = static_cast<long>(paged.attached.area.start);
  paged.target->counter = static_cast<long>(paged.attached.area.end - paged.attached.area.start);
  paged.target->go = 1;
  CHECK(paged.serve([&] { return paged.target->ready == 2; }));
  bool alive = true;
  CHECK(all(paged.take('m', {{0, 3}}, &alive), EIO));
  CHECK(!alive);
}

// Pages that a device may write to are pinned, and a move refuses them.
TEST(move_of_pinned_pages_is_refused) {
  needMove();
  Paged paged(
      [](Shared& shared) {
        uint64_t* memory = map(kPages);
        fill(memory, kPages);
        shared.address = reinterpret_cast<uint64_t>(memory);
        alignas(8) uint8_t parameters[120] = {};
        const long ring = syscall(SYS_io_uring_setup, 4, parameters);
        const iovec buffer{memory + 8 * (kPage / 8), 2 * kPage};
        shared.result = ring >= 0 && syscall(SYS_io_uring_register, ring, 0 /* IORING_REGISTER_BUFFERS */, &buffer, 1) == 0;
        shared.ready = 1;
        while (!shared.stop) sleepMs(1);
        return 0;
      },
      true, true);
  if (!paged.target->result) throw check::Skip("no io_uring here");
  CHECK(paged.take('m', {{6, 6}}) == std::vector<int>({0, 0, EBUSY, EBUSY, 0, 0}));
}

TEST(remove_filter_tells_ours_from_theirs) {
  const auto message = [](uint64_t start, uint64_t end) {
    uffd_msg m{};
    m.event = UFFD_EVENT_REMOVE;
    m.arg.remove = {start * kPage, end * kPage};
    return m;
  };
  // Mappings end at pages 12 and 100.
  const auto mappingEnd = [](pid_t, uint64_t address) -> uint64_t { return (address < 12 * kPage ? 12 : 100) * kPage; };
  RemoveFilter filter(0, mappingEnd);
  filter.expect(1 * kPage, 3 * kPage);
  filter.expect(10 * kPage, 14 * kPage);
  filter.expect(20 * kPage, 21 * kPage);
  CHECK(!filter.take(message(1, 2)));    // a part of a run that lies in one mapping: theirs
  CHECK(!filter.take(message(0, 3)) && !filter.take(message(2, 3)) && !filter.take(message(1, 4)));
  CHECK(filter.take(message(1, 3)) && !filter.take(message(1, 3)));
  CHECK(!filter.take(message(12, 14)));  // not before its first part
  CHECK(!filter.take(message(10, 11)));
  CHECK(filter.take(message(10, 12)) && !filter.take(message(10, 12)) && !filter.complete());
  CHECK(filter.take(message(20, 21)) && !filter.complete());
  CHECK(filter.take(message(12, 14)) && filter.complete());
  uffd_msg other{};
  other.event = UFFD_EVENT_UNMAP;
  CHECK(!filter.take(other));
}

int main(int argc, char** argv) { return check::run(argc, argv); }
