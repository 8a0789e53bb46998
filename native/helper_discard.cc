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
#include <cstdio>

#include "cgroup.h"
#include "helper.h"
#include "remove_filter.h"

namespace leap {
namespace {

constexpr int kWaiting = -1;                // status of a page that has been read and is to be dropped
constexpr int kQuietMilliseconds = 60000;   // without an event or the end of the program: then the helper is given up
constexpr int kFrozenMilliseconds = 50;     // after these we look whether it is frozen
constexpr int kLookMilliseconds = 1;        // after these we look whether it was stopped by a signal
constexpr size_t kMessages = 16;

uint64_t mappingEnd(pid_t pid, uint64_t address) {
  char name[64], line[512];
  snprintf(name, sizeof name, "/proc/%d/maps", pid);
  FILE* maps = fopen(name, "re");
  if (!maps) return 0;
  uint64_t found = 0;
  unsigned long from, to;
  while (!found && fgets(line, sizeof line, maps)) {
    if (sscanf(line, "%lx-%lx", &from, &to) == 2 && from <= address && address < to) found = to;
  }
  fclose(maps);
  return found;
}

}  // namespace

int Helper::protect(uint64_t address, uint64_t pages, bool on) const {
  uffdio_writeprotect request{{address, pages * kPageSize}, on ? UFFDIO_WRITEPROTECT_MODE_WP : 0ull};
  return ioctl(parts_.uffd, UFFDIO_WRITEPROTECT, &request) ? errno : 0;
}

// Reads what there is now, without waiting. Returns true when one of the messages passed on changes mappings.
bool Helper::readMessages(RemoveFilter* filter, Sink& sink) const {
  bool changed = false;
  uffd_msg messages[kMessages];
  for (;;) {
    const ssize_t got = ::read(parts_.uffd, messages, sizeof messages);
    const size_t count = got > 0 ? static_cast<size_t>(got) / sizeof(uffd_msg) : 0;
    for (size_t i = 0; i < count; i++) {
      if (filter && filter->take(messages[i])) continue;
      changed |= messages[i].event != UFFD_EVENT_PAGEFAULT;
      sink.message(messages[i]);
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

  // Pages that could not be read split their piece and stay.
  Piece drops[kBatchPages];
  size_t dropCount = 0;
  for (size_t i = 0; i < n; i++) {
    for (uint32_t k = 0; k < pieces[i].pages; k++) {
      const uint64_t address = pieces[i].address + k * static_cast<uint64_t>(kPageSize);
      if (status[pieces[i].first + k] != kWaiting) {
        protect(address, 1, false);
      } else if (k > 0 && status[pieces[i].first + k - 1] == kWaiting) {
        drops[dropCount - 1].pages++;
      } else {
        drops[dropCount++] = {address, pieces[i].first + k, 1};
      }
    }
  }
  if (dropCount == 0) return true;

  // Last look before the irrevocable: an event that waits here may mean that other memory stands at these addresses by now.
  const bool changed = readMessages(nullptr, sink);
  const bool done = !changed && drop(drops, dropCount, sink);
  for (size_t i = 0; i < dropCount; i++) {
    // Where it did not go as asked, a page that is not there any more has been taken, by us or by the target, whose event then follows.
    const uint64_t left = done ? 0 : changed ? ~0ull : presentMask(drops[i].address, drops[i].pages);
    for (uint32_t k = 0; k < drops[i].pages; k++) {
      const bool stays = left >> k & 1;
      status[drops[i].first + k] = !stays ? 0 : changed ? EAGAIN : lost_ ? EIO : EINVAL;
      if (stays) protect(drops[i].address + k * static_cast<uint64_t>(kPageSize), 1, false);
    }
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

// True when every page was dropped as asked.
bool Helper::drop(const Piece* pieces, size_t count, Sink& sink) {
  RemoveFilter filter(parts_.pid, mappingEnd);
  iovec ranges[kBatchPages];
  int64_t bytes = 0;
  steps_ = 0;
  for (size_t i = 0; i < count; i++) {
    const uint64_t size = pieces[i].pages * static_cast<uint64_t>(kPageSize);
    filter.expect(pieces[i].address, pieces[i].address + size);
    ranges[i] = {reinterpret_cast<void*>(pieces[i].address), size};
    bytes += static_cast<int64_t>(size);
    if (!vector_) push(SYS_madvise, pieces[i].address, size, MADV_DONTNEED);
  }
  if (vector_) {
    const uint64_t vector = parts_.area.requests + kVectorOffset;
    iovec local{ranges, count * sizeof(iovec)}, remote{reinterpret_cast<void*>(vector), local.iov_len};
    if (process_vm_writev(parts_.pid, &local, 1, &remote, 1, 0) != static_cast<ssize_t>(local.iov_len)) return kill(), false;
    push(SYS_process_madvise, static_cast<uint64_t>(selfPidfd_), vector, count, MADV_DONTNEED, 0);
  }
  Step& last = push(SYS_write, static_cast<uint64_t>(doneInside_), 0, sizeof last.one);
  last.call.arguments[1] = requestAddress();
  last.one = 1;
  if (!start() || !finishReading(filter, sink)) return false;
  fetchResults();
  if (vector_) return program_[0].call.result == bytes;
  return std::all_of(program_, program_ + count, [](const Step& step) { return step.call.result == 0; });
}

// The target has changed its mappings, and goes on now that its event has been read: what is still to be dropped may soon be other memory at the same
// addresses. The steps that the helper has not come to become calls that there are not. (One call for many ranges cannot be called off.)
void Helper::callOff() {
  static const int64_t none = -1;
  iovec local[kMaxSteps], remote[kMaxSteps];
  size_t count = 0;
  for (size_t i = 0; i < steps_; i++) {
    if (program_[i].call.number != SYS_madvise) continue;
    local[count] = {const_cast<int64_t*>(&none), sizeof none};
    remote[count++] = {reinterpret_cast<void*>(parts_.area.requests + i * sizeof(Step) + offsetof(Step, call.number)), sizeof none};
  }
  if (count > 0) (void)!process_vm_writev(parts_.pid, local, count, remote, count, 0);
}

// Each call of the helper returns only after its event has been read, so the events are watched together with an eventfd that the program's last step
// writes to. (Nothing else tells poll of a ptrace stop.)
bool Helper::finishReading(RemoveFilter& filter, Sink& sink) {
  for (int quiet = 0; quiet < kQuietMilliseconds;) {
    pollfd waits[] = {{parts_.uffd, POLLIN, 0}, {done_, POLLIN, 0}, {exit_, POLLIN, 0}};
    const int ready = poll(waits, 3, kLookMilliseconds);
    if (waits[0].revents & POLLIN && readMessages(&filter, sink)) callOff();
    uint64_t count;
    if (waits[1].revents & POLLIN && ::read(done_, &count, sizeof count) == sizeof count) return finish();
    if (waits[2].revents) return finish();
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
    (void)!::read(done_, &count, sizeof count);  // or it would tell of the end of the next program before that has begun
    return !lost_;
  }
  return kill(), false;
}

}  // namespace leap
