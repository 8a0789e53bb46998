// HelperProcess: ptrace, waitpid, and the memory shared with the target.
#include "helper/process.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cerrno>
#include <string>

#include "base/error.h"
#include "base/layout.h"
#include "base/procfs.h"
#include "target/cgroup.h"
#include "target/tracee.h"

namespace leap {
namespace {

constexpr int kMaxStops = 1000;                // stops for signals during one program
constexpr int kKillMilliseconds = 5000;        // for a killed process to die
constexpr long kFrozenNanoseconds = 50000000;  // a program that runs for longer may be frozen; most take 50 us
constexpr uint64_t kHasContents = 3ull << 62;  // of a pagemap entry: present, or swapped
constexpr uint64_t kEntryBytes = sizeof(uint64_t);

}  // namespace

HelperProcess::HelperProcess(pid_t pid) : pid_(pid) {
  if (ptrace(PTRACE_GETREGS, pid_, nullptr, &registers_)) kill();
}

HelperProcess::~HelperProcess() {
  kill();
  for (const int fd : {memory_, pagemap_, exit_}) {
    if (fd >= 0) close(fd);
  }
}

void HelperProcess::open() {
  memory_ = ::open(proc::path(pid_, "mem").c_str(), O_RDONLY | O_CLOEXEC);
  pagemap_ = ::open(proc::path(pid_, "pagemap").c_str(), O_RDONLY | O_CLOEXEC);
  exit_ = static_cast<int>(syscall(SYS_pidfd_open, pid_, 0));
  if (memory_ >= 0 && pagemap_ >= 0 && exit_ >= 0) return;
  throw Error(ErrorKind::kNotPermitted,
              "the helper (process " + std::to_string(pid_) + ") cannot be inspected: run as root", errno);
}

void HelperProcess::kill() {
  if (state_ == State::kCollected) return;
  state_ = State::kLost;
  ::kill(pid_, SIGKILL);
  const Ticker ticker;
  for (int i = 0; i < kMaxStops; i++) {
    const int status = waitTraced(ticker, pid_, kKillMilliseconds);
    if (status == -1 && thaw()) continue;
    if (status != -1 && WIFSTOPPED(status)) continue;
    state_ = State::kCollected;
    return;
  }
}

void HelperProcess::bindTo(int cpu) const {
  cpu_set_t cpus;
  CPU_ZERO(&cpus);
  CPU_SET(static_cast<size_t>(cpu), &cpus);
  // Refused where the target's cpuset lacks that CPU: the helper then stays where it is, which is slower.
  sched_setaffinity(pid_, sizeof cpus, &cpus);
}

bool HelperProcess::start(uint64_t code, uint64_t steps, size_t count) {
  arch::Registers registers = registers_;
  arch::setProgram(registers, code, steps, count);
  if (ptrace(PTRACE_SETREGS, pid_, nullptr, &registers) == 0 && ptrace(PTRACE_CONT, pid_, nullptr, nullptr) == 0)
    return true;
  kill();
  return false;
}

HelperProcess::Progress HelperProcess::judge(int waitStatus, uint64_t code, arch::Registers* registers) {
  if (!WIFSTOPPED(waitStatus)) {
    state_ = State::kCollected;
    return Progress::kDied;
  }
  const bool trapped = waitStatus >> 16 == 0 && WSTOPSIG(waitStatus) == SIGTRAP;
  if (trapped && ptrace(PTRACE_GETREGS, pid_, nullptr, registers) == 0 && arch::programEnded(*registers, code))
    return Progress::kEnded;
  // A signal that somebody has sent it: suppressed. An error means that the process is dying; the next wait says so.
  ptrace(PTRACE_CONT, pid_, nullptr, nullptr);
  return Progress::kRuns;
}

// A program never waits for long: its requests lie in memory that raises no fault, and its calls raise no event that
// this thread would have to read. Only a frozen helper waits; it is thawed. Stops for signals are counted, so that a
// helper that faults again and again is given up.
HelperProcess::Progress HelperProcess::wait(uint64_t code, arch::Registers* registers) {
  ticker_.start(kFrozenNanoseconds);
  Progress progress = Progress::kRuns;
  for (int i = 0; i < kMaxStops && progress == Progress::kRuns;) {
    int status;
    const pid_t got = waitpid(pid_, &status, __WALL);
    if (got < 0 && errno == EINTR) {
      thaw();
      continue;
    }
    if (got != pid_) break;
    progress = judge(status, code, registers);
    i++;
  }
  ticker_.stop();
  if (progress != Progress::kRuns) return progress;
  kill();
  return Progress::kDied;
}

HelperProcess::Progress HelperProcess::poll(uint64_t code, arch::Registers* registers) {
  int status;
  if (waitpid(pid_, &status, __WALL | WNOHANG) != pid_) return Progress::kRuns;
  return judge(status, code, registers);
}

// The helper was born in the target's control group and is frozen with it. leapd must not wait for a frozen target,
// because others may be waiting for leapd. Where the move is not permitted (control groups mounted read-only) leapd
// waits until the target is thawed.
bool HelperProcess::thaw() const { return isFrozen() && cgroup::join(pid_); }

bool HelperProcess::isFrozen() const { return cgroup::frozen(pid_); }

bool HelperProcess::write(uint64_t address, const void* bytes, size_t size) const {
  const iovec local{const_cast<void*>(bytes), size}, remote{reinterpret_cast<void*>(address), size};
  return write(&local, &remote, 1, size);
}

bool HelperProcess::write(const iovec* local, const iovec* remote, size_t count, size_t bytes) const {
  return process_vm_writev(pid_, local, count, remote, count, 0) == static_cast<ssize_t>(bytes);
}

bool HelperProcess::read(const iovec* local, const iovec* remote, size_t count, size_t bytes) const {
  return state_ != State::kCollected &&
         process_vm_readv(pid_, local, count, remote, count, 0) == static_cast<ssize_t>(bytes);
}

bool HelperProcess::readAlways(uint64_t address, void* bytes, size_t size) const {
  return pread(memory_, bytes, size, static_cast<off_t>(address)) == static_cast<ssize_t>(size);
}

uint64_t HelperProcess::presentMask(uint64_t address, uint32_t pages) const {
  static_assert(kBatchPages <= 64, "a mask is one word");
  uint64_t entries[kBatchPages], mask = 0;
  const auto offset = static_cast<off_t>(address / kPageSize * kEntryBytes);
  const ssize_t got = pread(pagemap_, entries, pages * kEntryBytes, offset);
  for (ssize_t i = 0; i < got / static_cast<ssize_t>(kEntryBytes); i++) {
    if (entries[i] & kHasContents) mask |= 1ull << i;
  }
  return mask;
}

}  // namespace leap
