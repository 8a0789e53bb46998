// The helper's two ways to take pages away: contents, absent pages, refusals.
#include <sys/syscall.h>
#include <sys/uio.h>

#include "paged.h"

using namespace leap;
using namespace test;

namespace {

// Whole runs and scattered pages away and back, several batches, contents checked on both sides.
void contents(char way, bool vector) {
  Paged paged(holder, way == 'm', vector);
  if (way == 'm' && !paged.attached.helper->canMove()) throw check::Skip("no UFFDIO_MOVE (Linux 6.8)");
  if (way == 'd' && vector && !paged.attached.helper->canVector())
    throw check::Skip("no process_madvise(MADV_DONTNEED) (Linux 6.13)");
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
  CHECK(paged.take(way, {{8, 8}, {10, 2}, {20, 1}}) ==
        std::vector<int>({0, 0, ENOENT, ENOENT, ENOENT, ENOENT, 0, 0, ENOENT, ENOENT, 0}));
  CHECK(holds(paged.store + 8 * kPage, 8) && holds(paged.store + 15 * kPage, 15) &&
        holds(paged.store + 20 * kPage, 20));
  CHECK(all(paged.take(way, {{8, 8}, {20, 1}}), ENOENT));
  CHECK(all(paged.take(way, {{30, 1}}), 0));
  CHECK(paged.sink.messages.empty());
  paged.verifyAndDetach();
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

// After fork the pages are shared: a move refuses (EBUSY), page for page; a discard takes the parent's, and the child
// keeps its own.
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

TEST(huge_pages_are_split_and_taken) {
  for (const char way : {'m', 'd'}) {
    if (way == 'm') needMove();
    Paged paged(
        [](Shared& shared) {
          constexpr size_t kHuge = 2 << 20;
          auto* at = static_cast<uint8_t*>(
              mmap(nullptr, 2 * kHuge, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
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
        shared.result =
            ring >= 0 && syscall(SYS_io_uring_register, ring, 0 /* IORING_REGISTER_BUFFERS */, &buffer, 1) == 0;
        shared.ready = 1;
        while (!shared.stop) sleepMs(1);
        return 0;
      },
      true, true);
  if (!paged.target->result) throw check::Skip("no io_uring here");
  CHECK(paged.take('m', {{6, 6}}) == std::vector<int>({0, 0, EBUSY, EBUSY, 0, 0}));
}

int main(int argc, char** argv) { return check::run(argc, argv); }
