// The engine on a real process: a child of ours that checks its own memory on demand, and a pager of ten lines. Needs
// the rights to attach; skips where they are missing.
#include <poll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>

#include "plain_pager.h"

using namespace leap;
using namespace obedient;

namespace {

void evictAndFault(Command how, bool move, bool vector, bool scattered) {
  Pager pager(move, vector);
  if (how == Command::kMoveOut && !pager.engine->canMove()) return;
  EXPECT(pager.evict(how, scattered) == kPages / 2);
  EXPECT(pager.framesHold(0, 0) && pager.framesHold(scattered ? 2 : 1, scattered ? 2 : 1));
  uint8_t there[kPages];
  EXPECT(pager.engine->residency(0, pager.target.vpn(), kPages, there) == 0);
  EXPECT(there[0] == 0 && there[scattered ? 1 : kPages / 2] == 1);
  // Once more, all of them: half is not there any more, and says so.
  uint32_t missing = 0, taken = 0;
  pager.hook = [&](const int32_t* event) {
    if (event[0] == static_cast<int32_t>(Event::kEvicted))
      (event[4] == 0 ? taken : missing) += event[4] == 0 || event[4] == ENOENT ? static_cast<uint32_t>(event[3]) : 0;
    return event[0] == static_cast<int32_t>(Event::kEvicted) && event[4] != 0;
  };
  for (uint32_t page = 0; page < kPages; page += 32) pager.command(how, page, page, 32);
  pager.turn(0);
  pager.hook = nullptr;
  EXPECT(missing == kPages / 2 && taken == kPages / 2);
  EXPECT(pager.engine->counters().helperBatches == kPages / 2 / kBatchPages + kPages / kBatchPages);
  pager.leave();
}

void throughTheFile() {
  Pager pager;
  pager.evict(pager.engine->canMove() ? Command::kMoveOut : Command::kDiscard, false);
  uint32_t written = 0, read = 0;
  pager.hook = [&](const int32_t* event) {
    auto kind = static_cast<Event>(event[0]);
    if (kind == Event::kWriteDone) written += event[4] == 0 ? static_cast<uint32_t>(event[3]) : 0;
    if (kind == Event::kReadDone) read += event[4] == 0 ? static_cast<uint32_t>(event[3]) : 0;
    return kind == Event::kWriteDone || kind == Event::kReadDone;
  };
  for (uint32_t page = 0; page < kPages / 2; page++) pager.command(Command::kWrite, page, page, 1);
  EXPECT(pager.until([&] { return written == kPages / 2; }));
  for (uint32_t page = 0; page < kPages / 2; page += 8) pager.command(Command::kRead, page, kPages + page, 8);
  EXPECT(pager.until([&] { return read == kPages / 2; }));
  Frames& frames = pager.engine->frames();
  EXPECT(memcmp(frames.at(0), frames.at(kPages), size_t{kPages} / 2 * kPageSize) == 0);
  EXPECT(memcmp(frames.hashes(), frames.hashes() + kPages * kHashWords, kPages / 2 * kHashWords * sizeof(int32_t)) ==
         0);
  EXPECT(memcmp(frames.hashes(), frames.hashes() + kHashWords, kHashWords * sizeof(int32_t)) != 0);
  pager.hook = nullptr;
  pager.leave();
}

void removeThenZeros() {
  Pager pager;
  pager.evict(Command::kDiscard, false);
  uint32_t removed = 0, refused = 0;
  pager.hook = [&](const int32_t* event) {
    if (event[0] == static_cast<int32_t>(Event::kRemove)) {
      removed++;
      EXPECT(vpnLow(pager.target.vpn()) == event[2] && vpnHigh(pager.target.vpn()) == event[3]);
      // As a pager that had decided before it came to this event: the old copy, too late.
      pager.command(Command::kMap, 0, 0, 1);
      memset(pager.stored, 0, sizeof pager.stored / 8);
      return true;
    }
    if (event[0] == static_cast<int32_t>(Event::kMapped) && event[2] == 0 && event[4] == EAGAIN) return refused++, true;
    return false;
  };
  memset(pager.stored, 0, kPages / 2);
  EXPECT(pager.tell('d') == 'y');
  EXPECT(removed == 1);
  EXPECT(pager.until([&] { return refused == 1; }));
  pager.hook = nullptr;
  EXPECT(pager.tell('z') == 'y');
  EXPECT(pager.engine->counters().staleMaps == 1);
  pager.leave();
}

void unmapThenGone() {
  Pager pager;
  pager.evict(Command::kDiscard, false);
  uint32_t unmapped = 0;
  pager.hook = [&](const int32_t* event) {
    if (event[0] != static_cast<int32_t>(Event::kUnmap)) return false;
    unmapped++;
    pager.engine->unbind(0, pager.target.vpn(), kPages / 2);
    return true;
  };
  EXPECT(pager.tell('m') == 'y');
  EXPECT(unmapped == 1);
  int error = 0;
  pager.hook = [&](const int32_t* event) { return error = event[4], true; };
  pager.command(Command::kMap, 0, 0, 1);
  pager.turn(0);
  EXPECT(error == ENOENT);
  pager.hook = nullptr;
  EXPECT(pager.tell('v') == 'y');
}

void forkedChild() {
  Pager pager;
  pager.evict(pager.engine->canMove() ? Command::kMoveOut : Command::kDiscard, true);
  int32_t child = -1;
  uint32_t gone = 0, faults = 0;
  pager.hook = [&](const int32_t* event) {
    auto kind = static_cast<Event>(event[0]);
    if (kind == Event::kFork) {
      child = event[2];
      EXPECT(event[1] == 0 && child == 1);
      pager.engine->bind(1, pager.target.vpn(), kPages, kPages);
      for (uint32_t page = 0; page < kPages; page++) pager.stored[kPages + page] = pager.stored[page];
    }
    if (kind == Event::kFault && event[4] == 1) faults++;
    return kind == Event::kTargetExit && event[1] == 1 ? gone++, true : false;
  };
  EXPECT(pager.tell('f') == 'y');
  EXPECT(child == 1 && faults == kPages / 2);
  EXPECT(!pager.engine->isAlive(1) && pager.engine->isAlive(0));
  pager.engine->drop(1);
  EXPECT(pager.engine->residency(1, pager.target.vpn(), 1, nullptr) == ESRCH);
  pager.hook = nullptr;
  pager.leave();
}

// No descriptor is left for a child: told once, and when there is one the fork goes on.
void forkWithoutDescriptors() {
  Pager pager;
  rlimit limit{};
  getrlimit(RLIMIT_NOFILE, &limit);
  const int free = dup(0);
  close(free);
  const rlimit none{static_cast<rlim_t>(free), limit.rlim_max};
  setrlimit(RLIMIT_NOFILE, &none);
  uint32_t told = 0, children = 0;
  pager.hook = [&](const int32_t* event) {
    if (event[0] != static_cast<int32_t>(Event::kFork)) return event[0] == static_cast<int32_t>(Event::kTargetExit);
    if (event[2] > 0) children++;
    if (event[2] < 0) EXPECT(event[3] == EMFILE && ++told > 0);
    if (event[2] > 0) pager.engine->bind(1, pager.target.vpn(), kPages, kPages);
    return true;
  };
  pager.target.order('f');
  for (int i = 0; i < 200; i++) pager.turn(1000000);
  EXPECT(told == 1 && children == 0);
  setrlimit(RLIMIT_NOFILE, &limit);
  char answer = 0;
  EXPECT(pager.until([&] { return pager.target.answered(&answer); }, 1000000));
  EXPECT(answer == 'y' && told == 1 && children == 1);
  pager.engine->drop(1);
  pager.hook = nullptr;
  pager.leave();
}

// The child has faulted on half of its pages and shares the others with its parent: of the first, one is moved out of
// it; of the others, one is discarded. Both come back by a fault.
void adoptedChild() {
  Pager pager;
  const bool move = pager.engine->canMove();
  pager.evict(move ? Command::kMoveOut : Command::kDiscard, true);
  uint32_t faults = 0, evicted = 0, again = 0;
  pager.hook = [&](const int32_t* event) {
    switch (static_cast<Event>(event[0])) {
      case Event::kFork:
        pager.engine->bind(1, pager.target.vpn(), kPages, kPages);
        for (uint32_t page = 0; page < kPages; page++) pager.stored[kPages + page] = pager.stored[page];
        return false;
      case Event::kFault:
        if (event[4] != 1) return false;
        faults++;
        if (evicted > 0) again++;
        if (faults == kPages / 2) {
          pager.engine->adopt(1, event[2]);
          EXPECT(pager.engine->canEvict(1) && pager.engine->isAlive(1) && pager.engine->pidOf(1) == event[2]);
        }
        return false;
      case Event::kMapped:
        if (faults == kPages / 2 && evicted == 0 && pager.engine->canEvict(1)) {
          pager.command(move ? Command::kMoveOut : Command::kDiscard, kPages, 0, 1);
          pager.command(Command::kDiscard, kPages + 1, 1, 1);
        }
        return false;
      case Event::kEvicted:
        EXPECT(event[4] == 0);
        evicted += static_cast<uint32_t>(event[3]);
        return false;
      case Event::kTargetExit: return true;
      default: return false;
    }
  };
  EXPECT(pager.tell('g') == 'y');
  EXPECT(evicted == 2 && again == 2);
  EXPECT(!pager.engine->isAlive(1));
  pager.engine->drop(1);
  pager.hook = nullptr;
  pager.leave();
}

// Of the pages of a thread's stack, the one that the kernel clears a word in is reported by itself, while the thread
// lives.
void threads(Command how, bool across) {
  Pager pager(how == Command::kMoveOut);
  if (how == Command::kMoveOut && !pager.engine->canMove()) return;
  EXPECT(pager.tell(across ? 'T' : 't') == 'y');
  uint32_t marked = 0;
  pager.hook = [&](const int32_t* event) {
    if (event[0] != static_cast<int32_t>(Event::kEvicted) || event[4] != EPERM) return false;
    EXPECT(event[1] == kThreadPage && event[2] == kThreadPage && event[3] == 1);
    marked++;
    int32_t hash[kHashWords];
    Frames& frames = pager.engine->frames();
    memcpy(hash, frames.hashes() + kThreadPage * kHashWords, sizeof hash);
    frames.hash(kThreadPage, 1);
    EXPECT(memcmp(hash, frames.hashes() + kThreadPage * kHashWords, sizeof hash) == 0);
    pager.command(Command::kMap, kThreadPage, kThreadPage, 1);
    return true;
  };
  for (uint32_t page = 0; page < kPages; page += kBatchPages) pager.command(how, page, page, kBatchPages);
  pager.turn(0);
  EXPECT(marked == 1);
  pager.turn(0);
  EXPECT(pager.tell('j') == 'y');
  // Its number is 0 now, as in a stack that nobody uses.
  pager.command(how, kThreadPage, kThreadPage, 1);
  pager.turn(0);
  EXPECT(marked == 1);
  pager.hook = nullptr;
  pager.leave();
}

void exits() {
  Pager pager;
  pager.evict(Command::kDiscard, false);
  uint32_t gone = 0;
  pager.hook = [&](const int32_t* event) {
    return event[0] == static_cast<int32_t>(Event::kTargetExit) ? gone++, true : false;
  };
  EXPECT(pager.engine->isAlive(0));
  pager.target.order('q');
  EXPECT(pager.until([&] { return gone == 1; }));
  for (int i = 0; i < 3; i++) pager.turn(1000000);
  EXPECT(gone == 1 && !pager.engine->isAlive(0));
  pager.engine->drop(0);
  EXPECT(pager.turn(0) == 0);
}

// What leapd's main thread does to have the pager look at its mail.
void wake(const Pager& pager) {
  const uint64_t one = 1;
  EXPECT(write(pager.engine->wakeFd(), &one, sizeof one) == sizeof one);
}

void wakes() {
  Pager pager;
  uint32_t woken = 0;
  pager.hook = [&](const int32_t* event) {
    return event[0] == static_cast<int32_t>(Event::kWake) ? woken++, true : false;
  };
  wake(pager);
  pager.turn(kWaitNs);
  EXPECT(woken == 1);
  EXPECT(pager.turn(1000) == 0);
  pager.engine->setSpin(200000);
  wake(pager);
  pager.turn(kWaitNs);
  EXPECT(woken == 2);
  pager.hook = nullptr;
  pager.evict(Command::kDiscard, true);
  pager.leave();
}

// A spin that always finds a fault must not keep a wake from being seen.
void wakesWhileSpinning() {
  Pager pager;
  pager.evict(pager.engine->canMove() ? Command::kMoveOut : Command::kDiscard, false);
  pager.engine->setSpin(kWaitNs);
  uint32_t faults = 0, atWake = 0;
  pager.hook = [&](const int32_t* event) {
    auto kind = static_cast<Event>(event[0]);
    if (kind == Event::kFault && faults++ == 0) wake(pager);
    return kind == Event::kWake ? atWake = faults, true : false;
  };
  EXPECT(pager.tell('v') == 'y');
  EXPECT(faults >= kPages / 2 && atWake > 0 && atWake < 64);
  pager.hook = nullptr;
  pager.leave();
}

// A thread that is woken before the pages behind its own are there stops again at the next one.
void mapsTheFirstLast() {
  constexpr uint32_t kWindow = 16;
  Pager pager;
  pager.evict(pager.engine->canMove() ? Command::kMoveOut : Command::kDiscard, false);
  uint32_t faults = 0, lastMapped = kPages;
  pager.hook = [&](const int32_t* event) {
    const auto page = static_cast<uint32_t>(event[1]);
    if (static_cast<Event>(event[0]) == Event::kMapped) return lastMapped = page, true;
    if (static_cast<Event>(event[0]) != Event::kFault) return false;
    EXPECT(faults == 0 || lastMapped == page - kWindow);
    faults++;
    for (uint32_t i = 0; i < kWindow; i++) pager.command(Command::kMap, page + i, page + i, 1);
    return true;
  };
  EXPECT(pager.tell('v') == 'y');
  EXPECT(faults == kPages / 2 / kWindow);
  pager.hook = nullptr;
  pager.leave();
}

void badCommands() {
  Pager pager;
  int error = -1;
  pager.hook = [&](const int32_t* event) { return error = event[4], true; };
  auto gives = [&](Command what, uint32_t page, uint32_t frame, uint32_t count) {
    error = -1;
    pager.command(what, page, frame, count);
    pager.turn(0);
    return error;
  };
  EXPECT(gives(Command::kMap, kPages - 1, 0, 2) == ENOENT);
  EXPECT(gives(Command::kMap, 0, 2 * kPages, 1) == EINVAL);
  EXPECT(gives(Command::kMap, 0, 0, 1) == EEXIST);
  EXPECT(gives(Command::kDiscard, kPages, 0, 1) == ENOENT);
  EXPECT(gives(Command::kDiscard, 0, 2 * kPages - 1, 2) == EINVAL);
  EXPECT(gives(Command::kRead, 0, 0, kBatchPages + 1) == EINVAL);
  EXPECT(gives(Command::kUnprotect, 0, 0, 1) == 0);
  pager.hook = nullptr;
  pager.leave();
}

}  // namespace

int main() {
  using leap::testing::run;
  try {
    Pager probe;
  } catch (const Error& error) {
    leap::testing::skip("engine", error.what());
    return 0;
  }
  for (bool scattered : {false, true}) {
    std::string how = scattered ? ", scattered" : ", in runs";
    run(("engine moves out" + how).c_str(), [=] { evictAndFault(Command::kMoveOut, true, true, scattered); });
    run(("engine discards, vectored" + how).c_str(), [=] { evictAndFault(Command::kDiscard, false, true, scattered); });
    run(("engine discards, one call a run" + how).c_str(),
        [=] { evictAndFault(Command::kDiscard, false, false, scattered); });
  }
  run("engine writes and reads the swap file", throughTheFile);
  run("engine never maps an old copy after a remove", removeThenZeros);
  run("engine tells of an unmap", unmapThenGone);
  run("engine serves a forked child", forkedChild);
  run("engine tells of a fork that it has no descriptor for", forkWithoutDescriptors);
  run("engine evicts from an adopted child", adoptedChild);
  for (bool across : {false, true}) {
    run(across ? "engine, moving, tells of a thread on two pages" : "engine, moving, tells of a thread",
        [=] { threads(Command::kMoveOut, across); });
    run(across ? "engine, discarding, tells of a thread on two pages" : "engine, discarding, tells of a thread",
        [=] { threads(Command::kDiscard, across); });
  }
  run("engine tells of the exit once", exits);
  run("engine wakes", wakes);
  run("engine wakes while it spins", wakesWhileSpinning);
  run("engine maps the page that is waited for last", mapsTheFirstLast);
  run("engine answers bad commands", badCommands);
  return leap::testing::failed;
}
