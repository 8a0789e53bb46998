// discard: the order of protect, read and drop, and the reading of events while the helper drops pages.
#include "helper/discard.h"

#include <poll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <algorithm>
#include <cerrno>

namespace leap {
namespace {

constexpr int kReadable = -2;             // status of a page that is present, and then of one that has been read
constexpr int kIdleMilliseconds = 60000;  // without an event or the end of the program: the helper is given up
constexpr int kFrozenMilliseconds = 50;   // without either: the helper may be frozen
constexpr int kStoppedMilliseconds = 1;   // without either: a signal may have stopped it
constexpr size_t kMessages = 16;

}  // namespace

int DiscardBatch::protect(uint64_t address, uint64_t pages, bool on) const {
  uffdio_writeprotect request{{address, pages * kPageSize}, on ? UFFDIO_WRITEPROTECT_MODE_WP : 0ull};
  return ioctl(fds_.uffd, UFFDIO_WRITEPROTECT, &request) ? errno : 0;
}

// Reads the messages that are there, without waiting. Those that change mappings go to the filter if `filtered`, all
// others to the sink. Returns true when the target has changed mappings.
bool DiscardBatch::readMessages(bool filtered) {
  bool changed = false;
  uffd_msg messages[kMessages];
  for (;;) {
    const ssize_t got = ::read(fds_.uffd, messages, sizeof messages);
    const size_t count = got > 0 ? static_cast<size_t>(got) / sizeof(uffd_msg) : 0;
    for (size_t i = 0; i < count; i++) {
      const bool changes = messages[i].event != UFFD_EVENT_PAGEFAULT;
      if (changes && filtered) {
        changed |= !filter_.hold(messages[i]);
      } else {
        changed |= changes;
        sink_.message(messages[i]);
      }
    }
    if (count < kMessages) return changed;
  }
}

// Protects a run, then asks which of its pages are there: an absent page must not be read.
void DiscardBatch::protectRun(const Batch::Run& run, uint32_t first) const {
  const int error = protect(run.address, run.pages, true);
  if (error) protect(run.address, run.pages, false);  // a part of it may have been protected
  const uint64_t present = error ? 0 : process_.presentMask(run.address, run.pages);
  for (uint32_t page = 0; page < run.pages; page++)
    batch_.status(first + page) = error ? error : present >> page & 1 ? kReadable : ENOENT;
}

void DiscardBatch::run(const Batch::Run* runs, size_t count, uint64_t vector) {
  uint32_t first = 0;
  for (size_t i = 0; i < count; first += runs[i].pages, i++) protectRun(runs[i], first);
  readVictims();
  const Batch::Pieces drops = batch_.gather(kReadable, 1);
  if (drops.count == 0) return;

  // Last check before the irrevocable: an event that waits here may mean that other memory is at these addresses now.
  const bool changed = readMessages(false);
  bool stays[kBatchPages];
  std::fill(stays, stays + drops.count, true);
  if (!changed) drop(drops, vector, stays);
  for (size_t i = 0; i < drops.count; i++) {
    batch_.status(drops[i].first) = !stays[i] ? 0 : changed ? EAGAIN : process_.lost() ? EIO : EINVAL;
    if (stays[i]) protect(drops[i].address, 1, false);
  }
}

// A page that cannot be read gets EFAULT and stays.
void DiscardBatch::readVictims() const {
  const Batch::Pieces pieces = batch_.gather(kReadable);
  iovec local[kBatchPages], remote[kBatchPages];
  size_t bytes = 0;
  for (size_t i = 0; i < pieces.count; bytes += pieces[i].bytes(), i++) {
    local[i] = {pieces[i].into, pieces[i].bytes()};
    remote[i] = {reinterpret_cast<void*>(pieces[i].address), pieces[i].bytes()};
  }
  if (pieces.count == 0 || process_.read(local, remote, pieces.count, bytes)) return;
  // Some page refuses (PROT_NONE): each by itself, by /proc/PID/mem, which ignores page protection.
  for (const Batch::Piece& piece : batch_.gather(kReadable, 1)) {
    if (process_.readAlways(piece.address, piece.into, kPageSize)) continue;
    batch_.status(piece.first) = EFAULT;
    protect(piece.address, 1, false);
  }
}

// The program that drops pages one by one (remove_filter.h says why), and reports its end.
void DiscardBatch::pushDrops(const Batch::Pieces& pages, uint64_t vector) {
  program_.clear();
  filter_.clear();
  iovec ranges[kBatchPages];
  for (size_t i = 0; i < pages.count; i++) {
    filter_.expect(pages[i].address);
    ranges[i] = {reinterpret_cast<void*>(pages[i].address), kPageSize};
    if (!fds_.vector) program_.push({SYS_madvise, {pages[i].address, kPageSize, MADV_DONTNEED}, 0});
  }
  if (fds_.vector) {
    if (!process_.write(vector, ranges, pages.count * sizeof(iovec))) process_.kill();
    program_.push(
        {SYS_process_madvise, {static_cast<uint64_t>(fds_.selfPidfd), vector, pages.count, MADV_DONTNEED, 0}, 0});
  }
  program_.pushWrite(fds_.doneInside, 1);
}

// Where a call has failed, a page that is no longer there has been dropped all the same, by leapd or by the target,
// whose event then follows.
void DiscardBatch::drop(const Batch::Pieces& pages, uint64_t vector, bool* stays) {
  pushDrops(pages, vector);
  if (!process_.lost() && program_.start()) {
    runProgram();
    program_.fetch();
  }
  bool reached = true;
  for (size_t i = 0; i < pages.count; i++) {
    const Program::Step& step = program_[fds_.vector ? 0 : i];
    const bool done = fds_.vector ? step.result() >= static_cast<int64_t>((i + 1) * kPageSize) : step.result() == 0;
    stays[i] = !done && process_.presentMask(pages[i].address, 1) != 0;
    filter_.raised(i, done || (reached && !Program::wasCalledOff(step) && !stays[i]));
    reached = fds_.vector ? done : step.result() != Program::kNotRun;
  }
  filter_.passOn(sink_);
}

// Each call of the helper returns only after its event has been read. So events are awaited together with an eventfd
// that the program's last step writes to; nothing else makes poll(2) report a ptrace stop.
//
// When the target changes mappings, its thread goes on once the event has been read, and other memory may soon be at
// the addresses still to be dropped: those calls are called off. (One call for many ranges cannot be.)
void DiscardBatch::runProgram() {
  for (int idle = 0; idle < kIdleMilliseconds;) {
    pollfd waits[] = {{fds_.uffd, POLLIN, 0}, {fds_.done, POLLIN, 0}, {process_.exitFd(), POLLIN, 0}};
    const int ready = poll(waits, 3, kStoppedMilliseconds);
    if (waits[0].revents & POLLIN && readMessages(true)) program_.callOff(SYS_madvise);
    uint64_t word;
    if ((waits[1].revents & POLLIN && ::read(fds_.done, &word, sizeof word) == sizeof word) || waits[2].revents) {
      program_.finish();
      return;
    }
    if (ready > 0) {
      idle = 0;
      continue;
    }
    idle += kStoppedMilliseconds;
    if (idle % kFrozenMilliseconds == 0 && process_.isFrozen()) {
      process_.thaw();
      idle = 0;
    }
    if (!program_.isOver()) continue;
    // Takes the word that the program has written since, if any: it would count as the end of the next program.
    (void)!::read(fds_.done, &word, sizeof word);
    return;
  }
  process_.kill();
}

}  // namespace leap
