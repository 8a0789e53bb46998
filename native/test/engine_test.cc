// The engine on a real process: a child of ours that checks its own memory on demand, and a pager of ten lines in which page, frame and slot are one
// number. Needs the rights to attach; skips where they are missing.
#include "../engine.h"

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <poll.h>
#include <pthread.h>
#include <string>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "expect.h"

using namespace leap;

namespace {

constexpr uint32_t kPages = 256;
constexpr int64_t kWaitNs = 20000000;
constexpr int kPatience = 500;  // turns without an end in sight, then a test gives up

uint8_t pattern(uint32_t page, uint32_t byte) { return static_cast<uint8_t>(page * 31 + byte * 7 + 1); }

// What the child does when told; it answers 'y' or 'n'.
//   v verify   z verify that the first half is zeros   d MADV_DONTNEED of the first half   m munmap of the first half   f fork, the child verifies
//   g fork, the child verifies twice, a while between   t, T start a thread with its stack in the first half   j have it end, and wait for that   q leave
bool verify(const uint8_t* memory, uint32_t from) {
  for (uint32_t page = from; page < kPages; page++) {
    for (uint32_t byte = 0; byte < kPageSize; byte += 61) {
      if (memory[size_t{page} * kPageSize + byte] != pattern(page, byte)) return false;
    }
  }
  return true;
}

bool zeros(const uint8_t* memory) {
  for (size_t i = 0; i < size_t{kPages} / 2 * kPageSize; i++) {
    if (memory[i]) return false;
  }
  return true;
}

// A thread that waits for a word on `wake`. What glibc keeps of it lies at the top of its stack: the kernel's part in page `kThreadPage`.
constexpr uint32_t kThreadPage = 30;
constexpr size_t kThreadLine = 0x2c0;  // from pthread_self() to the kernel's part
struct Waiter {
  int wake[2];
  pthread_t thread;

  // `across`: its first page and that of the kernel's part are two.
  bool start(uint8_t* memory, bool across) {
    size_t top = kThreadPage * size_t{kPageSize};
    if (pipe(wake) || !run(memory, top)) return false;
    const size_t below = memory + top - reinterpret_cast<uint8_t*>(thread), wanted = across ? top - kThreadLine : top + 64;
    return end() && run(memory, wanted + below) && reinterpret_cast<uint8_t*>(thread) == memory + wanted;
  }
  bool run(uint8_t* memory, size_t top) {
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstack(&attributes, memory, top);
    return pthread_create(&thread, &attributes, wait, this) == 0;
  }
  static void* wait(void* self) {
    char byte;
    return read(static_cast<Waiter*>(self)->wake[0], &byte, 1) == 1 ? self : nullptr;
  }
  bool end() {
    if (write(wake[1], "", 1) != 1) return false;
    timespec until{};
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 2;
    return pthread_timedjoin_np(thread, nullptr, &until) == 0;
  }
};

[[noreturn]] void live(uint8_t* memory, int orders, int answers) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  uint32_t from = 0;
  Waiter waiter;
  for (char order; read(orders, &order, 1) == 1;) {
    bool good = false;
    int status = 0;
    switch (order) {
      case 'v':
        good = verify(memory, from);
        break;
      case 'z':
        good = zeros(memory);
        break;
      case 'd':
        good = madvise(memory, size_t{kPages} / 2 * kPageSize, MADV_DONTNEED) == 0;
        from = kPages / 2;
        break;
      case 'm':
        good = munmap(memory, size_t{kPages} / 2 * kPageSize) == 0;
        from = kPages / 2;
        break;
      case 'f': {
        pid_t child = fork();
        if (child == 0) _exit(verify(memory, from) ? 0 : 1);
        good = child > 0 && waitpid(child, &status, 0) == child && status == 0;
        break;
      }
      case 'g': {
        pid_t child = fork();
        if (child == 0) {
          bool before = verify(memory, from);
          usleep(200000);
          _exit(before && verify(memory, from) ? 0 : 1);
        }
        good = child > 0 && waitpid(child, &status, 0) == child && status == 0;
        break;
      }
      case 't':
      case 'T':
        from = kPages / 2;
        good = waiter.start(memory, order == 'T');
        break;
      case 'j':
        good = waiter.end();
        break;
      default:
        _exit(0);
    }
    if (write(answers, good ? "y" : "n", 1) != 1) break;
  }
  _exit(0);
}

struct Target {
  uint8_t* memory;
  pid_t pid;
  int orders, answers;

  Target() {
    memory = static_cast<uint8_t*>(mmap(nullptr, size_t{kPages} * kPageSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    madvise(memory, size_t{kPages} * kPageSize, MADV_NOHUGEPAGE);
    int down[2], up[2];
    if (pipe(down) || pipe(up)) abort();
    pid = fork();
    if (pid == 0) {
      close(down[1]), close(up[0]);
      for (uint32_t page = 0; page < kPages; page++) {
        for (uint32_t byte = 0; byte < kPageSize; byte++) memory[size_t{page} * kPageSize + byte] = pattern(page, byte);
      }
      if (write(up[1], "r", 1) != 1) _exit(1);
      live(memory, down[0], up[1]);
    }
    close(down[0]), close(up[1]);
    orders = down[1], answers = up[0];
    char ready;
    if (read(answers, &ready, 1) != 1) abort();
  }
  ~Target() {
    kill(pid, SIGKILL);
    waitpid(pid, nullptr, 0);
    close(orders), close(answers);
    munmap(memory, size_t{kPages} * kPageSize);
  }
  uint64_t vpn() const { return reinterpret_cast<uint64_t>(memory) / kPageSize; }
  void order(char what) const {
    if (write(orders, &what, 1) != 1) abort();
  }
  bool answered(char* what) const {
    pollfd readable{answers, POLLIN, 0};
    return poll(&readable, 1, 0) == 1 && read(answers, what, 1) == 1;
  }
};

struct Pager {
  Target target;
  std::string path = "/var/tmp/leap-engine-test-" + std::to_string(getpid());
  std::unique_ptr<Engine> engine;
  uint32_t commands = 0;
  bool stored[4 * kPages] = {};
  std::function<bool(const int32_t*)> hook;  // true: the event has been dealt with

  explicit Pager(bool move = true, bool vector = true) {
    unlink(path.c_str());
    EngineOptions options;
    options.frames = 2 * kPages;
    options.seed = 42;
    options.swap.path = path;
    options.attach.allowMove = move;
    options.attach.allowVector = vector;
    engine = std::make_unique<Engine>(options);
    engine->attach(target.pid);
    EXPECT(engine->registerRange(0, target.vpn(), kPages) == 0);
    engine->bind(0, target.vpn(), kPages, 0);
  }
  ~Pager() {
    engine.reset();
    unlink(path.c_str());
  }

  void command(Command what, uint32_t page, uint32_t frame, uint32_t count) {
    int32_t* words = engine->commands() + commands;
    words[0] = static_cast<int32_t>(what), words[1] = static_cast<int32_t>(page), words[2] = static_cast<int32_t>(frame);
    words[3] = static_cast<int32_t>(count);
    commands += kCommandWords;
  }

  void serve(const int32_t* event) {
    if (hook && hook(event)) return;
    auto page = static_cast<uint32_t>(event[1]);
    switch (static_cast<Event>(event[0])) {
      case Event::kFault:
        if (event[3] & 2) {
          command(Command::kUnprotect, page, 0, 1);
        } else {
          command(stored[page] ? Command::kMap : Command::kZero, page, page % kPages, 1);
        }
        break;
      case Event::kMapped:
        EXPECT(event[4] == 0 || event[4] == EEXIST || event[4] == EAGAIN || event[4] == ESRCH);
        if (event[4] == EAGAIN) command(event[2] < 0 ? Command::kZero : Command::kMap, page, static_cast<uint32_t>(event[2]), 1);
        break;
      case Event::kEvicted:
        for (int32_t i = 0; i < event[3]; i++) stored[event[1] + i] = event[4] == 0;
        break;
      case Event::kUnprotected:
      case Event::kFork:
        break;
      default:
        EXPECT(!"an event that was not expected");
    }
  }

  uint32_t turn(int64_t waitNs) {
    uint32_t words = engine->turn(commands, waitNs);
    commands = 0;
    for (uint32_t at = 0; at < words; at += kEventWords) serve(engine->events().words() + at);
    return words;
  }

  // Turns until the condition holds.
  bool until(const std::function<bool()>& condition, int64_t waitNs = kWaitNs) {
    for (int i = 0; i < kPatience * 10; i++) {
      if (condition()) return true;
      turn(waitNs);
    }
    return condition();
  }

  char tell(char what) {
    char answer = 0;
    target.order(what);
    until([&] { return target.answered(&answer); }, 1000000);
    return answer;
  }

  // Every second page, in runs of one, or the lower half in runs of 64.
  uint32_t evict(Command how, bool scattered, uint32_t base = 0) {
    uint32_t evicted = 0;
    hook = [&](const int32_t* event) {
      if (event[0] != static_cast<int32_t>(Event::kEvicted)) return false;
      EXPECT(event[4] == 0 && event[5] == static_cast<int32_t>(how));
      evicted += static_cast<uint32_t>(event[3]);
      return false;
    };
    if (scattered) {
      for (uint32_t page = 0; page < kPages; page += 2) command(how, base + page, page, 1);
    } else {
      for (uint32_t page = 0; page < kPages / 2; page += kBatchPages) command(how, base + page, page, kBatchPages);
    }
    turn(0);
    hook = nullptr;
    return evicted;
  }

  bool framesHold(uint32_t frame, uint32_t page) {
    for (uint32_t byte = 0; byte < kPageSize; byte++) {
      if (engine->frames().at(frame)[byte] != pattern(page, byte)) return false;
    }
    return true;
  }

  void leave() {
    EXPECT(tell('v') == 'y');
    EXPECT(engine->unregisterRange(0, target.vpn(), kPages) == 0);
    engine->detach();
    target.order('v');
    char answer = 0;
    for (int i = 0; i < kPatience && !target.answered(&answer); i++) usleep(1000);
    EXPECT(answer == 'y');
  }
};

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
    if (event[0] == static_cast<int32_t>(Event::kEvicted)) (event[4] == 0 ? taken : missing) += event[4] == 0 || event[4] == ENOENT ? static_cast<uint32_t>(event[3]) : 0;
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
  EXPECT(memcmp(frames.hashes(), frames.hashes() + kPages * kHashWords, kPages / 2 * kHashWords * sizeof(int32_t)) == 0);
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

// The child has faulted on half of its pages and shares the others with its parent: of the first, one is moved out of it; of the others, one is
// discarded. Both come back by a fault.
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
      case Event::kTargetExit:
        return true;
      default:
        return false;
    }
  };
  EXPECT(pager.tell('g') == 'y');
  EXPECT(evicted == 2 && again == 2);
  EXPECT(!pager.engine->isAlive(1));
  pager.engine->drop(1);
  pager.hook = nullptr;
  pager.leave();
}

// Of the pages of a thread's stack, the one that the kernel clears a word in is reported by itself, while the thread lives.
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
  pager.hook = [&](const int32_t* event) { return event[0] == static_cast<int32_t>(Event::kTargetExit) ? gone++, true : false; };
  EXPECT(pager.engine->isAlive(0));
  pager.target.order('q');
  EXPECT(pager.until([&] { return gone == 1; }));
  for (int i = 0; i < 3; i++) pager.turn(1000000);
  EXPECT(gone == 1 && !pager.engine->isAlive(0));
  pager.engine->drop(0);
  EXPECT(pager.turn(0) == 0);
}

void wakes() {
  Pager pager;
  uint32_t woken = 0;
  pager.hook = [&](const int32_t* event) { return event[0] == static_cast<int32_t>(Event::kWake) ? woken++, true : false; };
  pager.engine->wake();
  pager.turn(kWaitNs);
  EXPECT(woken == 1);
  EXPECT(pager.turn(1000) == 0);
  pager.engine->setSpin(200000);
  pager.engine->wake();
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
    if (kind == Event::kFault && faults++ == 0) pager.engine->wake();
    return kind == Event::kWake ? atWake = faults, true : false;
  };
  EXPECT(pager.tell('v') == 'y');
  EXPECT(faults >= kPages / 2 && atWake > 0 && atWake < 64);
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
    run(("engine discards, one call a run" + how).c_str(), [=] { evictAndFault(Command::kDiscard, false, false, scattered); });
  }
  run("engine writes and reads the swap file", throughTheFile);
  run("engine never maps an old copy after a remove", removeThenZeros);
  run("engine tells of an unmap", unmapThenGone);
  run("engine serves a forked child", forkedChild);
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
  run("engine answers bad commands", badCommands);
  return leap::testing::failed;
}
