// Helper: its set-up, and one batch of evictions at a time.
#include "helper/helper.h"

#include <sched.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <cerrno>
#include <iterator>
#include <string>

#include "base/error.h"
#include "helper/move.h"
#include "target/target_check.h"

namespace leap {
namespace {

Error failure(ErrorKind kind, pid_t pid, const char* what, int error = 0) {
  return Error(kind, "the helper (process " + std::to_string(pid) + ") " + what, error);
}

}  // namespace

Helper::Helper(const Parts& parts)
    : parts_(parts), process_(parts.pid), program_(process_, parts_.area), fds_{parts.uffd, -1, -1, -1, false} {}

Helper::~Helper() {
  if (fds_.done >= 0) close(fds_.done);
}

bool Helper::moveOut(const Run* runs, size_t count, int* status) {
  const Batch batch(runs, count, status, lost() ? EIO : Batch::kUndecided);
  if (lost() || batch.pages() == 0) return !lost();
  MoveBatch(process_, program_, parts_.area, parts_.uffdInside, batch).run();
  return !lost();
}

bool Helper::discard(const Run* runs, size_t count, int* status, Sink& sink) {
  const Batch batch(runs, count, status, EIO);
  if (lost() || batch.pages() == 0) return !lost();
  DiscardBatch(process_, program_, filter_, fds_, batch, sink).run(runs, count, parts_.area.vector());
  return !lost();
}

// The helper must not outlive leapd, nor be killed by a seccomp filter that it inherited, nor wait for a CPU longer
// than leapd does.
void Helper::control() {
  const pid_t pid = parts_.pid;
  const auto set = [pid](long options) { return ptrace(PTRACE_SETOPTIONS, pid, nullptr, options) == 0; };
  // Suspending filters needs CAP_SYS_ADMIN. Without it leapd has refused a target that is under a filter (tracee.cc).
  if (!set(PTRACE_O_EXITKILL | PTRACE_O_SUSPEND_SECCOMP) && !set(PTRACE_O_EXITKILL))
    throw failure(ErrorKind::kFailed, pid, "cannot be controlled", errno);
  // Best effort: with the target's own priority the helper is slower, nothing else.
  const sched_param normal{};
  sched_setscheduler(pid, SCHED_OTHER, &normal);
  setpriority(PRIO_PROCESS, static_cast<id_t>(pid), 0);
}

// A program that names the helper, closes all descriptors but the userfaultfd, and opens those that discard needs.
void Helper::prepare() {
  const uint64_t name = parts_.area.vector();
  if (!process_.write(name, kHelperName, sizeof kHelperName))
    throw failure(ErrorKind::kFailed, parts_.pid, "cannot be written to", errno);
  const auto uffd = static_cast<uint64_t>(parts_.uffdInside);
  constexpr uint64_t kLast = ~0u;
  constexpr size_t kPidfd = 0, kEventfd = 1;
  program_.clear();
  program_.push({SYS_prctl, {PR_SET_NAME, name}, 0});
  program_.push({SYS_close_range, {uffd + 1, kLast, 0}, 0});
  if (uffd > 0) program_.push({SYS_close_range, {0, uffd - 1, 0}, 0});
  const size_t opened = program_.size();
  program_.push({SYS_pidfd_open, {static_cast<uint64_t>(parts_.pidInTarget), 0}, 0});
  program_.push({SYS_eventfd2, {0, EFD_CLOEXEC | EFD_NONBLOCK}, 0});
  if (!program_.run()) throw failure(ErrorKind::kFailed, parts_.pid, "has died");
  program_.fetch();
  for (size_t i = 0; i < program_.size(); i++) {
    const int64_t result = program_[i].result();
    if (result < 0)
      throw failure(ErrorKind::kKernelTooOld, parts_.pid, "could not be set up (Linux 5.11 or newer is needed)",
                    static_cast<int>(-result));
  }
  fds_.selfPidfd = static_cast<int>(program_[opened + kPidfd].result());
  fds_.doneInside = static_cast<int>(program_[opened + kEventfd].result());
  fds_.done = static_cast<int>(syscall(SYS_pidfd_getfd, process_.exitFd(), fds_.doneInside, 0));
  if (fds_.done < 0)
    throw failure(ErrorKind::kNotPermitted, parts_.pid, "refuses access to its descriptor: run as root", errno);
}

// Tries process_madvise on a range that nobody uses, a guard page.
bool Helper::vectorWorks() {
  const iovec guard{reinterpret_cast<void*>(parts_.area.start), kPageSize};
  const uint64_t vector = parts_.area.vector();
  if (!process_.write(vector, &guard, sizeof guard)) return false;
  program_.clear();
  program_.push({SYS_process_madvise, {static_cast<uint64_t>(fds_.selfPidfd), vector, 1, MADV_DONTNEED, 0}, 0});
  if (!program_.run()) throw failure(ErrorKind::kFailed, parts_.pid, "has died");
  program_.fetch();
  return program_[0].result() == static_cast<int64_t>(kPageSize);
}

void Helper::setUp(bool mayMove, bool mayVector) {
  control();
  process_.open();
  prepare();
  move_ = mayMove;
  fds_.vector = mayVector && vectorWorks();
}

}  // namespace leap
