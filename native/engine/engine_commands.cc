// The engine's commands: what each does, and the event that says how it went.
#include <algorithm>
#include <cerrno>
#include <cstring>

#include "engine/engine.h"
#include "target/arch_x86_64.h"
#include "uffd/uffd.h"

namespace leap {
namespace {

uint64_t addressOf(const Range& range, uint32_t page) { return (range.start + (page - range.first)) * kPageSize; }

}  // namespace

// Gives the reads and writes asked for so far to the kernel and to the RDMA devices.
void Engine::handOver() {
  swap_.flush();
  if (remote_ && !remote_->idle()) remote_->flush(nowNs());
}

void Engine::execute(uint32_t count) {
  bool evicted = false;
  for (uint32_t i = 0; i < count;) {
    const int32_t* words = &commands_[static_cast<size_t>(i) * kCommandWords];
    auto command = static_cast<Command>(words[0] & ((1 << kPlaceShift) - 1));
    auto page = static_cast<uint32_t>(words[1]);
    auto pages = static_cast<uint32_t>(words[3]);
    uint32_t taken = 1;
    switch (command) {
      case Command::kMap: taken = map(i, count); break;
      case Command::kZero:
      case Command::kPoison: fill(command, page, -1, pages); break;
      case Command::kWake:
      case Command::kUnprotect: touch(command, page, pages); break;
      case Command::kMoveOut:
      case Command::kDiscard:
        // An eviction takes as long as a read: whoever waits for one should not wait for both, one after the other.
        if (!evicted) handOver();
        evicted = true;
        taken = evict(words, count - i);
        break;
      case Command::kRead:
      case Command::kWrite:
        transfer(command == Command::kWrite, static_cast<uint32_t>(words[0]) >> kPlaceShift, words[1], words[2], pages);
        break;
    }
    i += taken;
  }
}

// The range of a run, or null when any of it is unbound.
const Range* Engine::resolve(uint32_t page, uint32_t count) const {
  const Range* range = ranges_.ofPage(page);
  return range && count > 0 && page - range->first + static_cast<uint64_t>(count) <= range->count ? range : nullptr;
}

bool Engine::wasRemoved(const Range& range, uint32_t page, uint32_t count) const {
  uint64_t start = range.start + (page - range.first);
  for (const Removed& removed : removed_) {
    if (removed.space == range.space && start < removed.end && removed.start < start + count) return true;
  }
  return false;
}

void Engine::noteGone(uint32_t space, int error) {
  if (error != ESRCH || spaces_[space].gone) return;
  spaces_[space].gone = spaces_[space].announce = true;
}

// A run of map commands, the last one first: a thread waits for the first of them, and the pages behind it are mapped
// ahead of its need. Woken before they are there it would only stop again at the next one. Returns how many commands.
uint32_t Engine::map(uint32_t first, uint32_t end) {
  uint32_t last = first;
  const auto words = [this](uint32_t command) { return &commands_[static_cast<size_t>(command) * kCommandWords]; };
  while (last + 1 < end && words(last + 1)[0] == static_cast<int32_t>(Command::kMap)) last++;
  for (uint32_t at = last + 1; at-- > first;) {
    fill(Command::kMap, static_cast<uint32_t>(words(at)[1]), words(at)[2], static_cast<uint32_t>(words(at)[3]));
  }
  return last - first + 1;
}

void Engine::fill(Command command, uint32_t page, int32_t frame, uint32_t count) {
  const Range* range = resolve(page, count);
  uint64_t bytes = static_cast<uint64_t>(count) * kPageSize, done = 0;
  int error = ENOENT;
  if (command == Command::kMap && !frames_.holds(frame, count)) {
    error = EINVAL;
  } else if (range && spaces_[range->space].changing) {
    error = EAGAIN;
  } else if (range && command == Command::kMap && !removed_.empty() && wasRemoved(*range, page, count)) {
    error = EAGAIN;
    counters_.staleMaps++;
  } else if (range) {
    int fd = spaces_[range->space].attached.uffd;
    uint64_t to = addressOf(*range, page);
    if (command == Command::kMap) {
      error = uffd::copy(fd, to, frames_.at(static_cast<uint32_t>(frame)), bytes, &done);
    } else {
      error = command == Command::kZero ? uffd::zero(fd, to, bytes, &done) : uffd::poison(fd, to, bytes, &done);
    }
    noteGone(range->space, error);
  }
  if (error) quiet_ = false;
  events_.add(Event::kMapped, static_cast<int32_t>(page), frame, static_cast<int32_t>(done / kPageSize), error,
              static_cast<int32_t>(count));
}

void Engine::touch(Command command, uint32_t page, uint32_t count) {
  const Range* range = resolve(page, count);
  int error = ENOENT;
  if (range) {
    int fd = spaces_[range->space].attached.uffd;
    uint64_t start = addressOf(*range, page), bytes = static_cast<uint64_t>(count) * kPageSize;
    error = command == Command::kWake ? uffd::wake(fd, start, bytes) : uffd::unprotect(fd, start, bytes);
    noteGone(range->space, error);
  }
  if (error) quiet_ = false;
  if (command == Command::kUnprotect)
    events_.add(Event::kUnprotected, static_cast<int32_t>(page), -1, static_cast<int32_t>(count), error);
}

void Engine::transfer(bool write, uint32_t place, int32_t slot, int32_t frame, uint32_t count) {
  int error = 0;
  if (slot < 0 || count == 0 || count > kBatchPages || !frames_.holds(frame, count) || place > kReplicas ||
      (place > 0 && !remote_)) {
    error = EINVAL;
  } else if (place > 0) {
    if (!remote_->request({write, place - 1, static_cast<uint32_t>(slot), static_cast<uint32_t>(frame), count}))
      error = EINVAL;
  } else if (!swap_.request({write, static_cast<uint32_t>(slot), static_cast<uint32_t>(frame), count})) {
    error = EBUSY;
  }
  if (error) quiet_ = false;
  if (error)
    events_.add(write ? Event::kWriteDone : Event::kReadDone, slot, frame, static_cast<int32_t>(count), error,
                static_cast<int32_t>(place));
}

void Engine::transferred(bool write, uint32_t place, uint32_t slot, uint32_t frame, uint32_t count, int error) {
  if (error == 0 && !write) frames_.hash(frame, count);
  events_.add(write ? Event::kWriteDone : Event::kReadDone, static_cast<int32_t>(slot), static_cast<int32_t>(frame),
              static_cast<int32_t>(count), error, static_cast<int32_t>(place));
}

void Engine::done(const SwapFile::Request& request, int error) {
  transferred(request.write, 0, request.slot, request.frame, request.count, error);
}

void Engine::done(const Remote::Request& request, int error) {
  transferred(request.write, request.replica + 1, request.slot, request.frame, request.count, error);
}

// One batch of the helper: this command and those right behind it that are of its kind and space, up to kBatchPages
// pages. Returns how many commands.
uint32_t Engine::evict(const int32_t* words, uint32_t left) {
  Helper::Run runs[kBatchPages];
  int status[kBatchPages];
  uint32_t pages = 0, space = 0;
  quiet_ = false;
  const uint32_t taken = gatherBatch(words, left, runs, &pages, &space);
  if (taken == 0) {
    events_.add(Event::kEvicted, words[1], words[2], words[3],
                resolve(static_cast<uint32_t>(words[1]), static_cast<uint32_t>(words[3])) ? EINVAL : ENOENT, words[0]);
    return 1;
  }
  const bool moves = static_cast<Command>(words[0]) == Command::kMoveOut;
  Attached& attached = spaces_[space].attached;
  const int otherwise = spaces_[space].changing ? EAGAIN : attached.helper ? ESRCH : EINVAL;
  std::fill(status, status + pages, otherwise);
  if (attached.helper && !spaces_[space].changing) {
    batchSpace_ = space;
    counters_.helperBatches++;
    const bool lives =
        moves ? attached.helper->moveOut(runs, taken, status) : attached.helper->discard(runs, taken, status, *this);
    if (!lives) {
      attached.helper.reset();
      events_.add(Event::kHelperLost, static_cast<int32_t>(space));
    }
  }
  for (uint32_t i = 0, at = 0; i < taken; at += runs[i].pages, i++)
    reportEvicted(&words[i * kCommandWords], runs[i], status + at);
  return taken;
}

// The commands that make one batch, as runs of one space. Returns how many; 0: the first one cannot be carried out.
uint32_t Engine::gatherBatch(const int32_t* words, uint32_t left, Helper::Run* runs, uint32_t* pages,
                             uint32_t* space) const {
  uint32_t taken = 0;
  for (; taken < left && words[taken * kCommandWords] == words[0]; taken++) {
    const int32_t* next = &words[taken * kCommandWords];
    const auto page = static_cast<uint32_t>(next[1]), count = static_cast<uint32_t>(next[3]);
    const Range* range = resolve(page, count);
    if (!range || count > kBatchPages || !frames_.holds(next[2], count)) break;
    if (taken == 0) *space = range->space;
    if (range->space != *space || *pages + count > kBatchPages) break;
    runs[taken] = {addressOf(*range, page), count, frames_.at(static_cast<uint32_t>(next[2]))};
    *pages += count;
  }
  return taken;
}

// One event for each run of pages with the same status.
void Engine::reportEvicted(const int32_t* command, const Helper::Run& run, int* status) {
  for (uint32_t page = 0; page < run.pages; page++) {
    if (status[page] == 0 && arch::holdsThread(run.into + page * size_t{kPageSize})) status[page] = EPERM;
  }
  for (uint32_t from = 0, to; from < run.pages; from = to) {
    const int result = status[from];
    for (to = from + 1; to < run.pages && status[to] == result;) to++;
    if (result == 0 || result == EPERM) frames_.hash(static_cast<uint32_t>(command[2]) + from, to - from);
    events_.add(Event::kEvicted, command[1] + static_cast<int32_t>(from), command[2] + static_cast<int32_t>(from),
                static_cast<int32_t>(to - from), result, command[0]);
  }
}

}  // namespace leap
