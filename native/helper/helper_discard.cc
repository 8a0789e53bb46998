// discard: write-protect victims, read them, drop them with MADV_DONTNEED, reading the events that this raises.
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>
#include <algorithm>
#include <cerrno>

#include "helper/helper.h"
#include "target/cgroup.h"

namespace leap {
namespace {

constexpr int kWaiting = -1;               // status of a page that has been read and is to be dropped
constexpr int kQuietMilliseconds = 60000;  // without an event or the end of the program: then the helper is given up
constexpr int kFrozenMilliseconds = 50;    // after these we look whether it is frozen
constexpr int kLookMilliseconds = 1;       // after these we look whether it was stopped by a signal
constexpr size_t kMessages = 16;

}  // namespace

int Helper::protect(uint64_t address, uint64_t pages, bool on) const {
  uffdio_writeprotect request{{address, pages * kPageSize}, on ? UFFDIO_WRITEPROTECT_MODE_WP : 0ull};
  return ioctl(parts_.uffd, UFFDIO_WRITEPROTECT, &request) ? errno : 0;
}

// Reads what there is now, without waiting; what changes mappings goes to the filter, if there is one. Returns true
// when the target has changed mappings.
bool Helper::readMessages(RemoveFilter* filter, Sink& sink) const {
  bool changed = false;
  uffd_msg messages[kMessages];
  for (;;) {
    const ssize_t got = ::read(parts_.uffd, messages, sizeof messages);
    const size_t count = got > 0 ? static_cast<size_t>(got) / sizeof(uffd_msg) : 0;
    for (size_t i = 0; i < count; i++) {
      const bool changes = messages[i].event != UFFD_EVENT_PAGEFAULT;
      if (changes && filter) {
        changed |= !filter->hold(messages[i]);
      } else {
        changed |= changes;
        sink.message(messages[i]);
      }
    }
    if (count < kMessages) return changed;
  }
}

bool Helper::discard(const Run* runs, size_t count, int* status, Sink& sink) {
  Piece pieces[kBatchPages];
  uint8_t* into[kBatchPages];
  uint32_t total = 0;
  for (size_t i = 0; i < count; i++) total += runs[i].pages;
  std::fill(status, status + total, EIO);
  if (lost_ || total == 0) return !lost_;

  // Protect whole runs, then see which pages are there at all: an absent one must not be read.
  size_t n = 0;
  uint32_t first = 0;
  for (size_t i = 0; i < count; first += runs[i].pages, i++) {
    const int error = protect(runs[i].address, runs[i].pages, true);
    if (error) protect(runs[i].address, runs[i].pages, false);  // a part of it may have been protected
    const uint64_t present = error ? 0 : presentMask(runs[i].address, runs[i].pages);
    for (uint32_t k = 0; k < runs[i].pages; k++) {
      status[first + k] = error ? error : present >> k & 1 ? kWaiting : ENOENT;
      if (status[first + k] != kWaiting) continue;
      if (k > 0 && status[first + k - 1] == kWaiting) {
        pieces[n - 1].pages++;
      } else {
        into[n] = runs[i].into + k * static_cast<size_t>(kPageSize);
        pieces[n++] = {runs[i].address + k * static_cast<uint64_t>(kPageSize), first + k, 1};
      }
    }
  }
  readVictims(pieces, n, into, status);

  // Pages that could not be read stay.
  Piece drops[kBatchPages];  // of one page each
  size_t dropCount = 0;
  for (size_t i = 0; i < n; i++) {
    for (uint32_t k = 0; k < pieces[i].pages; k++) {
      const uint64_t address = pieces[i].address + k * static_cast<uint64_t>(kPageSize);
      if (status[pieces[i].first + k] == kWaiting) {
        drops[dropCount++] = {address, pieces[i].first + k, 1};
      } else {
        protect(address, 1, false);
      }
    }
  }
  if (dropCount == 0) return true;

  // Last look before the irrevocable: an event that waits here may mean that other memory stands at these addresses by
  // now.
  const bool changed = readMessages(nullptr, sink);
  bool stays[kBatchPages];
  std::fill(stays, stays + dropCount, true);
  if (!changed) drop(drops, dropCount, stays, sink);
  for (size_t i = 0; i < dropCount; i++) {
    status[drops[i].first] = !stays[i] ? 0 : changed ? EAGAIN : lost_ ? EIO : EINVAL;
    if (stays[i]) protect(drops[i].address, 1, false);
  }
  return !lost_;
}

void Helper::readVictims(const Piece* pieces, size_t count, uint8_t* const* into, int* status) {
  iovec local[kBatchPages], remote[kBatchPages];
  size_t bytes = 0;
  for (size_t i = 0; i < count; i++) {
    const size_t length = pieces[i].pages * static_cast<size_t>(kPageSize);
    local[i] = {into[i], length};
    remote[i] = {reinterpret_cast<void*>(pieces[i].address), length};
    bytes += length;
  }
  if (count == 0 || process_vm_readv(parts_.pid, local, count, remote, count, 0) == static_cast<ssize_t>(bytes)) return;
  // Some page refuses (PROT_NONE): page by page, by way of /proc/PID/mem, which does not ask for permission bits.
  for (size_t i = 0; i < count; i++) {
    for (uint32_t k = 0; k < pieces[i].pages; k++) {
      const uint64_t offset = k * static_cast<uint64_t>(kPageSize);
      const ssize_t got = pread(memory_, into[i] + offset, kPageSize, static_cast<off_t>(pieces[i].address + offset));
      if (got != static_cast<ssize_t>(kPageSize)) status[pieces[i].first + k] = EFAULT;
    }
  }
}

// Drops pages one by one (remove_filter.h says why). Where that does not go as asked, a page that is not there any more
// has been taken, by us or by the target, whose event then follows.
void Helper::drop(const Piece* pages, size_t count, bool* stays, Sink& sink) {
  iovec ranges[kBatchPages];
  steps_ = 0;
  filter_.clear();
  for (size_t i = 0; i < count; i++) {
    filter_.expect(pages[i].address);
    ranges[i] = {reinterpret_cast<void*>(pages[i].address), kPageSize};
    if (!vector_) push(SYS_madvise, pages[i].address, kPageSize, MADV_DONTNEED);
  }
  bool ready = true;
  if (vector_) {
    const uint64_t vector = parts_.area.requests + kVectorOffset;
    iovec local{ranges, count * sizeof(iovec)}, remote{reinterpret_cast<void*>(vector), local.iov_len};
    ready = process_vm_writev(parts_.pid, &local, 1, &remote, 1, 0) == static_cast<ssize_t>(local.iov_len);
    if (!ready) kill();
    push(SYS_process_madvise, static_cast<uint64_t>(selfPidfd_), vector, count, MADV_DONTNEED, 0);
  }
  Step& last = push(SYS_write, static_cast<uint64_t>(doneInside_), 0, sizeof last.one);
  last.call.arguments[1] = requestAddress();
  last.one = 1;
  if (ready && start()) {
    finishReading(sink);
    fetchResults();
  }
  bool reached = true;
  for (size_t i = 0; i < count; i++) {
    const arch::CallStep& call = program_[vector_ ? 0 : i].call;
    const bool done = vector_ ? call.result >= static_cast<int64_t>((i + 1) * kPageSize) : call.result == 0;
    const bool calledOff = !vector_ && call.number != SYS_madvise;
    stays[i] = !done && presentMask(pages[i].address, 1) != 0;
    filter_.raised(i, done || (reached && !calledOff && !stays[i]));
    reached = vector_ ? done : call.result != kNotRun;
  }
  filter_.passOn(sink);
}

// The target has changed its mappings, and goes on now that its event has been read: what is still to be dropped may
// soon be other memory at the same addresses. The steps that the helper has not come to become calls that there are
// not. (One call for many ranges cannot be called off.)
void Helper::callOff() {
  static const int64_t none = -1;
  iovec local[kMaxSteps], remote[kMaxSteps];
  size_t count = 0;
  for (size_t i = 0; i < steps_; i++) {
    if (program_[i].call.number != SYS_madvise) continue;
    local[count] = {const_cast<int64_t*>(&none), sizeof none};
    remote[count++] = {reinterpret_cast<void*>(parts_.area.requests + i * sizeof(Step) + offsetof(Step, call.number)),
                       sizeof none};
  }
  if (count > 0) (void)!process_vm_writev(parts_.pid, local, count, remote, count, 0);
}

// Each call of the helper returns only after its event has been read, so the events are watched together with an
// eventfd that the program's last step writes to. (Nothing else tells poll of a ptrace stop.)
void Helper::finishReading(Sink& sink) {
  for (int quiet = 0; quiet < kQuietMilliseconds;) {
    pollfd waits[] = {{parts_.uffd, POLLIN, 0}, {done_, POLLIN, 0}, {exit_, POLLIN, 0}};
    const int ready = poll(waits, 3, kLookMilliseconds);
    if (waits[0].revents & POLLIN && readMessages(&filter_, sink)) callOff();
    uint64_t count;
    if ((waits[1].revents & POLLIN && ::read(done_, &count, sizeof count) == sizeof count) || waits[2].revents) {
      finish();
      return;
    }
    if (ready > 0) {
      quiet = 0;
      continue;
    }
    // Quiet: frozen by its cgroup, or stopped by a signal that was not for it.
    quiet += kLookMilliseconds;
    if (quiet % kFrozenMilliseconds == 0 && cgroup::frozen(parts_.pid)) {
      cgroup::join(parts_.pid);
      quiet = 0;
    }
    int status;
    if (waitpid(parts_.pid, &status, __WALL | WNOHANG) != parts_.pid || !ended(status)) continue;
    (void)!::read(done_, &count,
                  sizeof count);  // or it would tell of the end of the next program before that has begun
    return;
  }
  kill();
}

}  // namespace leap
