// The helper while the target does what it likes: writes, discards and unmaps pages, has its helper killed.
#include <fcntl.h>
#include <chrono>

#include "paged.h"

using namespace leap;
using namespace test;

namespace {

// A thread of the target increments counters in all pages all the time while pages are taken and given back: no
// increment may be lost.
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
    for (int status :
         paged.take(way, {{static_cast<size_t>(i % 8), 4}, {12, 1}, {16, static_cast<uint32_t>(1 + i % 16)}}))
      taken += status == 0;
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

TEST(move_loses_no_write) {
  needMove();
  racingWriter('m', true);
}
TEST(discard_vectored_loses_no_write) { racingWriter('d', true); }
TEST(discard_one_call_a_run_loses_no_write) { racingWriter('d', false); }

// The target discards pages itself, all the time, some of them the very ones that we discard: each of its calls must
// reach us as one event, no more.
static void ownRemoves(bool vector) {
  Paged paged(
      [](Shared& shared) {
        uint64_t* memory = prepare(shared);
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
      for (uint64_t at = message.arg.remove.start; at < message.arg.remove.end; at += kPage)
        paged.out[(at - paged.base) / kPage] = false;
    }
    paged.others.clear();
  };
  for (int i = 0; i < 600; i++) {
    const size_t theirs = static_cast<size_t>(i) % 5, ours = 40 + static_cast<size_t>(i) % 3;
    for (int status : paged.take('d', {{theirs, static_cast<uint32_t>(1 + i / 5 % 4)}, {ours, 2}}))
      taken += status == 0;
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

// The target has unmapped pages and its event is not read yet: nothing may be taken, and the event must get through.
TEST(nothing_is_taken_while_mappings_change) {
  for (const char way : {'m', 'd'}) {
    if (way == 'm') needMove();
    Paged paged(
        [](Shared& shared) {
          uint64_t* memory = prepare(shared);
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

// A target that reads all its memory, ours too, as collectors do: it never gets stuck, and the moves do not mind.
TEST(target_that_reads_our_pages) {
  needMove();
  Paged paged(
      [](Shared& shared) {
        prepare(shared);
        const auto* arena = reinterpret_cast<const volatile uint8_t*>(shared.extra.load());
        uint64_t sum = 0;
        for (; !shared.stop; shared.counter++) {
          for (size_t page = 0; page < kBatchPages; page++) sum += arena[page * kPage];
        }
        return sum == 1 ? 4 : 0;
      },
      true, true);
  paged.target->extra = static_cast<long>(paged.attached.area.arena);
  paged.target->go = 1;
  size_t taken = 0;
  for (int i = 0; i < 300; i++) {
    for (int status : paged.take('m', {{0, 30}, {40, 1}, {50, 1}})) {
      CHECK(status == 0 || status == EAGAIN);
      taken += status == 0;
    }
    for (size_t page = 0; page < 64; page++) {
      if (!paged.out[page]) continue;
      CHECK(holds(paged.store + page * kPage, page));
      CHECK_EQUAL(paged.give(page), 0);
    }
  }
  CHECK(taken > 300 * 16);
  const long before = paged.target->counter;
  CHECK(test::waitFor([&] { return paged.target->counter > before; }));
  paged.target->stop = 1;
  CHECK_EQUAL(paged.target.join(), 0);
}

// The kernel moves pages from frame to frame all the while, and holds each for a moment: what counts as taken is in our
// hands, the rest is still there.
TEST(moves_while_memory_is_compacted) {
  needMove();
  const int compact = open("/proc/sys/vm/compact_memory", O_WRONLY | O_CLOEXEC);
  if (compact < 0) throw check::Skip("/proc/sys/vm/compact_memory cannot be written to");
  Paged paged(holder, true, true);
  size_t taken = 0, stayed = 0;
  {
    const test::Repeating compactor([&] { (void)!write(compact, "1", 1); }, 100);
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(4);
    for (size_t i = 0; std::chrono::steady_clock::now() < end; i++) {
      const size_t first = i * 64 % kPages;
      const std::vector<int> statuses =
          paged.take('m', {{first, 16}, {first + 17, 1}, {first + 19, 1}, {first + 21, 30}});
      for (const int status : statuses) (status == 0 ? taken : stayed)++;
      for (size_t page = first; page < first + 64; page++) {
        if (!paged.out[page]) {
          CHECK(paged.present(page));
          continue;
        }
        CHECK(holds(paged.store + page * kPage, page));
        CHECK_EQUAL(paged.give(page), 0);
      }
    }
  }
  close(compact);
  std::printf("# %zu pages taken, %zu that could not be\n", taken, stayed);
  CHECK(taken > 1000);
  paged.verifyAndDetach();
}

// Signals to the helper, whatever they are short of SIGKILL, are not for it.
TEST(signals_to_the_helper_change_nothing) {
  for (const char way : {'m', 'd'}) {
    if (way == 'm') needMove();
    Paged paged(holder, way == 'm', true);
    {
      const int signals[] = {SIGSTOP, SIGTRAP, SIGTERM, SIGCONT, SIGSEGV, SIGINT};
      unsigned next = 0;
      const test::Repeating sender([&] { kill(paged.attached.helper->pid(), signals[next++ % 6]); }, 2000);
      for (int i = 0; i < 100; i++) {
        CHECK(all(paged.take(way, {{0, 20}, {30, 1}, {40, 1}}), 0));
        for (size_t page = 0; page < 64; page++) {
          if (paged.out[page]) CHECK_EQUAL(paged.give(page), 0);
        }
      }
    }
    paged.verifyAndDetach();
  }
}

// The helper is killed in the midst of its work, at another moment each time: what counts as taken is in our hands, the
// rest is still there.
TEST(a_killed_helper_loses_nothing) {
  int midway = 0;
  for (int i = 0; i < 40; i++) {
    const char way = i % 2 ? 'd' : 'm';
    if (way == 'm') needMove();
    Paged paged(holder, way == 'm', i % 4 == 1);
    const pid_t helper = paged.attached.helper->pid();
    std::vector<std::pair<size_t, uint32_t>> wanted;
    for (size_t page = 0; page < 64; page++) wanted.push_back({2 * page, 1});
    unsigned beats = 0;
    const test::Repeating killer(
        [&] {
          if (beats++ == 1) kill(helper, SIGKILL);  // once: the number may be another process later
        },
        1 + 20 * i);
    bool alive = true;
    for (int batches = 0; alive && batches < 100000; batches++) {
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
    CHECK(!alive && paged.attached.helper->lost());
    CHECK(all(paged.take(way, {{0, 3}}), EIO));
    if (i % 3 == 0) paged.attached.helper.reset();
    paged.verifyAndDetach();
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
        prepare(shared);
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

TEST(remove_filter_tells_ours_from_theirs) {
  const auto message = [](uint64_t start, uint64_t end) {
    uffd_msg m{};
    m.event = UFFD_EVENT_REMOVE;
    m.arg.remove = {start * kPage, end * kPage};
    return m;
  };
  uffd_msg unmap = message(30, 40);
  unmap.event = UFFD_EVENT_UNMAP;
  RemoveFilter filter;
  const auto expect = [&] {
    filter.clear();
    for (const uint64_t page : {1, 2, 3, 10, 20}) filter.expect(page * kPage);
  };
  const auto raised = [&](const std::vector<bool>& have) {
    for (size_t i = 0; i < have.size(); i++) filter.raised(i, have[i]);
  };
  using Spans = std::vector<std::pair<uint64_t, uint64_t>>;
  const auto theirs = [&] {
    Collected sink;
    filter.passOn(sink);
    Spans spans;
    for (const uffd_msg& m : sink.messages) spans.push_back({m.arg.remove.start / kPage, m.arg.remove.end / kPage});
    return spans;
  };

  // Whether one is the target's for certain.
  expect();
  CHECK(filter.hold(message(1, 2)) && filter.hold(message(1, 2)) && filter.hold(message(20, 21)));
  CHECK(!filter.hold(message(1, 3)) && !filter.hold(message(0, 1)) && !filter.hold(message(4, 5)) &&
        !filter.hold(message(10, 12)) && !filter.hold(unmap));

  // All that was asked for: nothing is left, and nothing is told twice.
  expect();
  for (const uint64_t page : {1, 2, 3, 10, 20}) filter.hold(message(page, page + 1));
  raised({true, true, true, true, true});
  CHECK(theirs() == Spans{});
  CHECK(theirs() == Spans{});

  // The same page twice: one is the target's. What is certain stays where it was among the others.
  expect();
  for (const auto& m : {message(1, 2), message(0, 3), message(2, 3), unmap, message(2, 3), message(1, 4)})
    filter.hold(m);
  raised({true, true, false, false, false});
  CHECK((theirs() == Spans{{0, 3}, {30, 40}, {2, 3}, {1, 4}}));

  // What was called off has raised none: an equal event of the target's own is passed on.
  expect();
  for (const uint64_t page : {1, 2, 10}) filter.hold(message(page, page + 1));
  raised({true, false, false, false, false});
  CHECK((theirs() == Spans{{2, 3}, {10, 11}}));
}

// The target splits and joins the mapping with mprotect all the time while pages of it are discarded: our own events
// are cut at its edges of the moment.
static void splitting(bool vector) {
  Paged paged(
      [](Shared& shared) {
        uint64_t* memory = prepare(shared);
        for (unsigned i = 0; !shared.stop; i++) {
          uint8_t* at = reinterpret_cast<uint8_t*>(memory) + i * 7 % 60 * kPage;
          mprotect(at, (1 + i % 5) * kPage, PROT_READ);
          mprotect(at, (1 + i % 5) * kPage, PROT_READ | PROT_WRITE);
          shared.counter++;
        }
        return holdsAll(memory) ? 0 : 4;
      },
      false, vector);
  paged.target->go = 1;
  size_t taken = 0;
  for (int i = 0; i < 600; i++) {
    const auto first = static_cast<size_t>(i) % 3;
    for (int status : paged.take('d', {{first, 16}, {20, 8}, {40, 20}})) taken += status == 0;
    CHECK(paged.sink.messages.empty());  // the target has discarded nothing
    for (size_t page = 0; page < 64; page++) {
      for (int error = EAGAIN; paged.out[page] && error;) {
        error = paged.give(page);
        CHECK(error == 0 || error == EAGAIN);
      }
    }
  }
  CHECK(taken > 10000);
  paged.target->stop = 1;
  CHECK_EQUAL(paged.target.join(), 0);
}
TEST(removes_are_ours_though_mappings_are_split_meanwhile_vectored) { splitting(true); }
TEST(removes_are_ours_though_mappings_are_split_meanwhile_one_call_a_run) { splitting(false); }

int main(int argc, char** argv) { return check::run(argc, argv); }
