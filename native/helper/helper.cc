#include "helper/helper.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cerrno>
#include <iterator>
#include <string>

#include "base/error.h"
#include "target/cgroup.h"
#include "target/target_check.h"
#include "target/tracee.h"

namespace leap {
namespace {

constexpr int kMaxStops = 1000;  // stops of other causes (SIGSTOP and the like) in one program
constexpr int kKillMilliseconds = 5000;
constexpr long kFrozenNanoseconds = 50000000;  // a program takes a thousandth of that

}  // namespace

Helper::Helper(const Parts& parts) : parts_(parts) {
  static_assert(sizeof(Step) == arch::kStepStride, "the stride is in the code page");
  static_assert(sizeof(program_) <= kVectorOffset, "the vector of process_madvise stands behind the program");
  if (ptrace(PTRACE_GETREGS, parts_.pid, nullptr, &registers_)) kill();
}

Helper::~Helper() {
  kill();
  for (const int fd : {memory_, pagemap_, done_, exit_}) {
    if (fd >= 0) close(fd);
  }
}

void Helper::kill() {
  lost_ = true;
  if (dead_) return;
  ::kill(parts_.pid, SIGKILL);
  const Ticker ticker;
  for (int i = 0; i < kMaxStops && !dead_; i++) {
    const int status = waitTraced(ticker, parts_.pid, kKillMilliseconds);
    if (status == -1 && thaw()) continue;
    dead_ = status == -1 || !WIFSTOPPED(status);
  }
}

void Helper::place(int cpu) {
  cpu_set_t cpus;
  CPU_ZERO(&cpus);
  CPU_SET(static_cast<size_t>(cpu), &cpus);
  sched_setaffinity(parts_.pid, sizeof cpus,
                    &cpus);  // refused when the target's cpuset lacks that CPU: slower, nothing else
}

Helper::Step& Helper::push(int64_t number, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e) {
  Step& step = program_[steps_++];
  step.call = {number, {a, b, c, d, e}, kNotRun};
  return step;
}

uint64_t Helper::requestAddress() const {
  return parts_.area.requests + (steps_ - 1) * sizeof(Step) + offsetof(Step, move);
}

bool Helper::start() {
  iovec local{program_, steps_ * sizeof(Step)}, remote{reinterpret_cast<void*>(parts_.area.requests), local.iov_len};
  written_ = process_vm_writev(parts_.pid, &local, 1, &remote, 1, 0) == static_cast<ssize_t>(local.iov_len);
  if (!written_) return kill(), false;
  arch::Registers registers = registers_;
  arch::setProgram(registers, parts_.area.code, parts_.area.requests, steps_);
  if (ptrace(PTRACE_SETREGS, parts_.pid, nullptr, &registers) || ptrace(PTRACE_CONT, parts_.pid, nullptr, nullptr))
    return kill(), false;
  return true;
}

bool Helper::ended(int waitStatus) {
  if (!WIFSTOPPED(waitStatus)) {
    dead_ = lost_ = true;
    return true;
  }
  if (waitStatus >> 16 == 0 && WSTOPSIG(waitStatus) == SIGTRAP) {
    arch::Registers registers;
    if (ptrace(PTRACE_GETREGS, parts_.pid, nullptr, &registers) == 0 &&
        arch::programEnded(registers, parts_.area.code)) {
      allZero_ = arch::programAllZero(registers);
      return true;
    }
  }
  ptrace(PTRACE_CONT, parts_.pid, nullptr, nullptr);  // somebody sent it a signal: not for it
  return false;
}

// The program has no reason to wait for long: its requests lie in memory that never faults to us, and its calls raise
// no event here. Only a frozen helper does wait, and is thawed. Stops of other causes are counted, so a helper that
// faults over and over is given up.
bool Helper::finish() {
  ticker_.start(kFrozenNanoseconds);
  bool over = false;
  for (int i = 0; i < kMaxStops && !over;) {
    int status;
    const pid_t got = waitpid(parts_.pid, &status, __WALL);
    if (got < 0 && errno == EINTR) {
      thaw();
      continue;
    }
    if (got != parts_.pid) break;
    over = ended(status);
    i++;
  }
  ticker_.stop();
  if (!over) kill();
  return !lost_;
}

// It was born in the target's control group, and is frozen with that; but we must not wait for a target that is frozen:
// others may be waiting for us. So it comes to ours. Where that is not permitted (control groups mounted read-only) we
// do wait until the target is thawed.
bool Helper::thaw() { return cgroup::frozen(parts_.pid) && cgroup::join(parts_.pid); }

void Helper::fetchResults() {
  // Through /proc/PID/mem when the helper is gone: that file holds on to the memory itself.
  iovec local{program_, steps_ * sizeof(Step)}, remote{reinterpret_cast<void*>(parts_.area.requests), local.iov_len};
  if (process_vm_readv(parts_.pid, &local, 1, &remote, 1, 0) == static_cast<ssize_t>(local.iov_len)) return;
  (void)!pread(memory_, program_, local.iov_len, static_cast<off_t>(parts_.area.requests));
}

// Bit i: page i has contents (present, or in the kernel's own swap), so that reading it cannot raise a fault for us.
uint64_t Helper::presentMask(uint64_t address, uint32_t pages) const {
  static_assert(kBatchPages <= 64, "a mask is one word");
  uint64_t entries[kBatchPages], mask = 0;
  const ssize_t got =
      pread(pagemap_, entries, pages * sizeof(uint64_t), static_cast<off_t>(address / kPageSize * sizeof(uint64_t)));
  for (ssize_t i = 0; i < got / static_cast<ssize_t>(sizeof(uint64_t)); i++) {
    if (entries[i] >> 62) mask |= 1ull << i;
  }
  return mask;
}

bool Helper::execute(const arch::CallStep* calls, size_t count, int64_t* results) {
  if (lost_) return false;
  steps_ = 0;
  for (size_t i = 0; i < count; i++) {
    const uint64_t* a = calls[i].arguments;
    push(calls[i].number, a[0], a[1], a[2], a[3], a[4]);
  }
  if (!start() || !finish()) return false;
  fetchResults();
  for (size_t i = 0; i < count; i++) results[i] = program_[i].call.result;
  return true;
}

void Helper::setUp(bool mayMove, bool mayVector, bool filtered) {
  const auto fail = [this](const char* kind, const char* what) {
    return Error(kind, "the helper for process " + std::to_string(parts_.pid) + " " + what, errno);
  };
  // It must never outlive us, nor be killed by a filter that it inherited; nor wait for a processor longer than we do.
  const long options = PTRACE_O_EXITKILL | (filtered ? PTRACE_O_SUSPEND_SECCOMP : 0);
  if (ptrace(PTRACE_SETOPTIONS, parts_.pid, nullptr, options)) throw fail("failed", "cannot be controlled");
  const sched_param normal{};
  sched_setscheduler(parts_.pid, SCHED_OTHER, &normal);
  setpriority(PRIO_PROCESS, static_cast<id_t>(parts_.pid), 0);
  const std::string directory = "/proc/" + std::to_string(parts_.pid);
  memory_ = open((directory + "/mem").c_str(), O_RDONLY | O_CLOEXEC);
  pagemap_ = open((directory + "/pagemap").c_str(), O_RDONLY | O_CLOEXEC);
  if (memory_ < 0 || pagemap_ < 0) throw fail("not-permitted", "cannot be inspected: run as root");

  // What the calls below point to: a name, and for the probe a range that nobody uses, a guard page.
  iovec guard{reinterpret_cast<void*>(parts_.area.start), kPageSize};
  iovec local[] = {{&guard, sizeof guard}, {const_cast<char*>(kHelperName), sizeof kHelperName}};
  const uint64_t vector = parts_.area.requests + kVectorOffset;
  iovec remote{reinterpret_cast<void*>(vector), sizeof guard + sizeof kHelperName};
  if (process_vm_writev(parts_.pid, local, 2, &remote, 1, 0) != static_cast<ssize_t>(remote.iov_len))
    throw fail("failed", "cannot be written to");

  const auto uffd = static_cast<uint64_t>(parts_.uffdInside);
  const arch::CallStep calls[] = {
      {SYS_prctl, {PR_SET_NAME, vector + sizeof guard}, 0},
      {SYS_close_range, {uffd + 1, ~0u, 0}, 0},
      {SYS_close_range, {uffd ? 0ull : 1ull, uffd ? uffd - 1 : ~0u, 0}, 0},
      {SYS_pidfd_open, {static_cast<uint64_t>(parts_.pidInTarget), 0}, 0},
      {SYS_eventfd2, {0, EFD_CLOEXEC | EFD_NONBLOCK}, 0},
  };
  int64_t results[std::size(calls)];
  if (!execute(calls, std::size(calls), results)) throw fail("failed", "has died");
  for (const int64_t result : results) {
    if (result < 0) errno = static_cast<int>(-result);
    if (result < 0) throw fail("kernel-too-old", "could not be set up (Linux 5.11 or newer is needed)");
  }
  selfPidfd_ = static_cast<int>(results[3]);
  doneInside_ = static_cast<int>(results[4]);
  exit_ = static_cast<int>(syscall(SYS_pidfd_open, parts_.pid, 0));
  done_ = static_cast<int>(syscall(SYS_pidfd_getfd, exit_, doneInside_, 0));
  if (done_ < 0) throw fail("not-permitted", "refuses access to its descriptor: run as root");
  move_ = mayMove;
  if (mayVector) {
    const arch::CallStep probe{
        SYS_process_madvise, {static_cast<uint64_t>(selfPidfd_), vector, 1, MADV_DONTNEED, 0}, 0};
    int64_t result;
    if (!execute(&probe, 1, &result)) throw fail("failed", "has died");
    vector_ = result == kPageSize;
  }
}

}  // namespace leap
