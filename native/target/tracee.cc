#include "target/tracee.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <algorithm>
#include <cerrno>
#include <cstring>
#include <vector>

#include "base/procfs.h"
#include "target/cgroup.h"
#include "target/gadget.h"
#include "target/target_check.h"
#include "target/thread_state.h"
#include "uffd/uffd_abi.h"

namespace leap {
namespace {

// Seized, interrupted, not yet stopped; or dead, not yet collected. ptrace belongs to a thread, so these do too.
thread_local std::vector<Traced> stragglers;

constexpr int kMaxStops = 1000;               // signals and group stops in the way of one call
constexpr int kLeastMilliseconds = 5;         // even when the time is over
constexpr int kSyscallStop = SIGTRAP | 0x80;  // under PTRACE_O_TRACESYSGOOD: ptrace(2)
constexpr long kRestartNoIntr = 513;          // ERESTARTNOINTR of the kernel, in no header for programs
constexpr int kCloneTries = 5;                // a clone that a pending signal interrupts
constexpr int kCollectMilliseconds = 100;     // a big process takes longer to die, and is collected as a straggler

int64_t nowMicroseconds() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1000000ll + now.tv_nsec / 1000;
}

std::string named(pid_t pid) { return "process " + std::to_string(pid); }
std::string inProcess(pid_t pid) { return " in " + named(pid); }

Error refusedByFilter(pid_t pid) {
  return Error(
      ErrorKind::kSeccomp,
      named(pid) + " runs under a seccomp filter that could kill it for leapd's system calls, and suspending the " +
          "filter is not permitted: run as root with CAP_SYS_ADMIN, on a kernel with CONFIG_CHECKPOINT_RESTORE");
}

Error ended(pid_t pid, int error = 0) {
  return Error(ErrorKind::kNoProcess, named(pid) + " ended while it was being attached", error);
}

int eventOf(int status) { return status >> 16; }

// In a system call that waits for a page of memory under userfaultfd: the kernel does not stop it before the page is
// there. (In user mode it does.)
bool waitsForPageInKernel(pid_t pid, pid_t tid) {
  const std::string directory = "task/" + std::to_string(tid) + "/";
  std::string where, call;
  return proc::readAll(proc::path(pid, directory + "wchan"), &where) && where == "handle_userfault" &&
         proc::readAll(proc::path(pid, directory + "syscall"), &call) && call.compare(0, 2, "-1") != 0;
}

}  // namespace

int waitTraced(const Ticker& ticker, pid_t tid, int milliseconds) {
  const int64_t deadline = nowMicroseconds() + milliseconds * 1000ll;
  for (bool patient = false;; patient = true) {
    int status;
    const pid_t got = waitpid(tid, &status, __WALL | (patient && ticker.running() ? 0 : WNOHANG));
    if (got == tid) return status;
    if (got < 0 && errno != EINTR) return -1;
    if (nowMicroseconds() >= deadline) return errno = ETIMEDOUT, -1;
    if (patient && !ticker.running()) sched_yield();
  }
}

Tracee::Tracee(pid_t pid, const Patience& patience) : patience_(patience) {
  pid_ = pid;
  try {
    choose();
    awaitStop(patience_.stop);
    suspendFilters();
    if (!haveSaved_) save();
    if (!arch::is64Bit(saved_))
      throw Error(ErrorKind::k32Bit, named(pid_) + " runs 32-bit code; only 64-bit processes can be paged");
    gadget_ = findSyscall(pid_, tid_);
    if (gadget_ == 0) throw Error(ErrorKind::kFailed, "found no syscall instruction" + inProcess(pid_));
    const uint64_t all = ~0ull;
    if (ptrace(PTRACE_SETSIGMASK, tid_, sizeof all, &all))
      throw Error(ErrorKind::kFailed, "cannot block signals" + inProcess(pid_), errno);
  } catch (...) {
    if (!stopped_) deadline_ = nowMicroseconds();  // it has had its time
    release();
    throw;
  }
}

// Suspends seccomp filters, also where there is none yet: another thread may install one for all (TSYNC) at any time.
// Where that is not permitted, a thread under a filter is refused. The filter is looked for only now that the thread
// stands still.
void Tracee::suspendFilters() {
  options_ = PTRACE_O_TRACESYSGOOD | PTRACE_O_SUSPEND_SECCOMP;
  if (ptrace(PTRACE_SETOPTIONS, tid_, nullptr, options_) == 0) return;
  options_ = PTRACE_O_TRACESYSGOOD;
  std::string status;
  if (!proc::readAll(proc::path(pid_, "task/" + std::to_string(tid_) + "/status"), &status)) throw ended(pid_, errno);
  const std::string seccomp = proc::statusField(status, "Seccomp");
  if (!seccomp.empty() && seccomp != "0") throw refusedByFilter(pid_);
}

// Saves all that is restored on release.
void Tracee::save() {
  if (ptrace(PTRACE_GETREGS, tid_, nullptr, &saved_)) throw ended(pid_, errno);
  if (ptrace(PTRACE_GETSIGMASK, tid_, sizeof savedMask_, &savedMask_))
    throw Error(ErrorKind::kFailed, "cannot read the signal mask" + inProcess(pid_), errno);
  if (!abortRestartableSequence(tid_, saved_))
    throw Error(ErrorKind::kTimeout, "cannot read the restartable sequence" + inProcess(pid_) + ": try again");
  if (!suspendDispatch(tid_, dispatch_))
    throw Error(ErrorKind::kDispatch, named(pid_) + " uses syscall user dispatch (Wine?) in a way that leapd cannot " +
                                          "suspend: it cannot be paged on this kernel");
  haveSaved_ = true;
}

bool Tracee::releaseStragglers() noexcept {
  for (size_t i = stragglers.size(); i-- > 0;) {
    const Traced straggler = stragglers[i];
    stragglers.erase(stragglers.begin() + static_cast<ptrdiff_t>(i));
    const Tracee letGoAtOnce(straggler);  // or it is in the list again, behind those that are left
  }
  return !stragglers.empty();
}

bool Tracee::awaitStragglers(int milliseconds) noexcept {
  const auto calls = [](const Traced& straggler) {
    return straggler.haveSaved_ && straggler.called_ && !straggler.gone_;
  };
  const int64_t deadline = nowMicroseconds() + milliseconds * 1000ll;
  while (releaseStragglers() && std::any_of(stragglers.begin(), stragglers.end(), calls)) {
    if (nowMicroseconds() > deadline) return true;
    const timespec pause{0, 1000000};
    nanosleep(&pause, nullptr);
  }
  return false;
}

// Any live thread will do. One in uninterruptible sleep would not stop (the parent of a vfork, say), and once seized
// could not be let go.
void Tracee::choose() {
  const auto known = std::find_if(stragglers.begin(), stragglers.end(),
                                  [this](const Traced& each) { return each.pid_ == pid_ && !each.gone_; });
  if (known != stragglers.end()) {
    static_cast<Traced&>(*this) = *known;
    stragglers.erase(known);
    return;
  }
  const int64_t deadline = nowMicroseconds() + patience_.stop * 1000ll;
  for (;;) {
    std::vector<pid_t> threads = proc::threads(pid_);
    std::sort(threads.begin(), threads.end(), [this](pid_t a, pid_t b) { return (a != pid_) < (b != pid_); });
    bool alive = false;
    for (const pid_t tid : threads) {
      const char state = proc::state(pid_, tid);
      if (state == 0 || state == 'Z' || state == 'X') continue;
      alive = true;
      if (state != 'D' && !waitsForPageInKernel(pid_, tid) && seize(tid)) return;
    }
    if (!alive) throw Error(ErrorKind::kNoProcess, named(pid_) + " has ended: give the number of a running one");
    if (nowMicroseconds() > deadline) {
      throw Error(ErrorKind::kTimeout,
                  "no thread of " + named(pid_) +
                      " can be stopped, all wait in the kernel (a vfork, a disk, a page): try again later");
    }
    const timespec pause{0, 1000000};
    nanosleep(&pause, nullptr);
  }
}

bool Tracee::seize(pid_t tid) {
  std::string status;
  if (!proc::readAll(proc::path(pid_, "task/" + std::to_string(tid) + "/status"), &status)) return false;
  const std::string tracer = proc::statusField(status, "TracerPid");
  if (tracer != "0") {
    throw Error(ErrorKind::kTraced,
                named(pid_) + " is traced by process " + tracer + " (a debugger?): detach that first");
  }
  if (ptrace(PTRACE_SEIZE, tid, nullptr, PTRACE_O_TRACESYSGOOD)) {
    if (errno == ESRCH) return false;
    throw Error(
        ErrorKind::kNotPermitted,
        "may not trace " + named(pid_) + ": run as root (CAP_SYS_PTRACE), with kernel.yama.ptrace_scope below 3",
        errno);
  }
  tid_ = tid;
  return true;
}

void Tracee::resume(int request) {
  stopped_ = false;
  if (ptrace(static_cast<__ptrace_request>(request), tid_, nullptr, nullptr)) {
    gone_ = true;
    throw ended(pid_, errno);
  }
}

Error Tracee::late(int milliseconds) const {
  if (cgroup::frozen(pid_))
    return Error(ErrorKind::kFrozen, named(pid_) + " is frozen by its control group: thaw it first");
  return Error(ErrorKind::kTimeout, "thread " + std::to_string(tid_) + " of " + named(pid_) + " did not stop within " +
                                        std::to_string(milliseconds) +
                                        " ms: try again when the process is not blocked in the kernel");
}

int Tracee::wait(int milliseconds) {
  const int status = waitTraced(ticker_, tid_, milliseconds);
  if (status == -1) throw late(milliseconds);
  if (!WIFSTOPPED(status)) {
    tid_ = -1;  // collected
    throw ended(pid_);
  }
  stopped_ = true;
  return status;
}

int Tracee::left() const {
  if (deadline_ == 0) return patience_.call;
  return std::max(kLeastMilliseconds, static_cast<int>((deadline_ - nowMicroseconds()) / 1000));
}

// A call that does not end, or never began as its process has been frozen, is given up. The thread is stopped again, so
// that it can be let go as it was.
int Tracee::waitInCall() {
  try {
    return wait(left());
  } catch (const Error&) {
    if (tid_ < 0) throw;
    if (deadline_ == 0) deadline_ = nowMicroseconds() + patience_.undo * 1000ll;
    tryStop();
    throw;
  }
}

// To a stop between two instructions of the thread's own, in which the kernel will look at an interrupted call when we
// let go.
void Tracee::awaitStop(int milliseconds) {
  if (ptrace(PTRACE_INTERRUPT, tid_, nullptr, nullptr)) {
    gone_ = errno == ESRCH;
    throw ended(pid_, errno);
  }
  if (stopped_) resume(PTRACE_CONT);
  for (int i = 0; i < kMaxStops; i++) {
    const int status = wait(milliseconds);
    entered_ = false;
    atRest_ = eventOf(status) == PTRACE_EVENT_STOP;
    if (atRest_) return;
    // A signal was on its way: the thread gets it, and the interrupt still stands. Signals that come while all are
    // blocked can only be SIGSTOP.
    const int signal = eventOf(status) || called_ ? 0 : WSTOPSIG(status);
    if (called_ && !eventOf(status) && WSTOPSIG(status) == SIGSTOP) stopSignal_ = SIGSTOP;
    stopped_ = false;
    ptrace(PTRACE_CONT, tid_, nullptr, static_cast<long>(signal));
  }
  throw Error(ErrorKind::kTimeout, named(pid_) + " is under too many signals to be stopped: try again later");
}

void Tracee::tryStop() noexcept {
  try {
    awaitStop(left());
  } catch (const Error&) {
    // It has died, or is beyond reach for now: release() sees to both.
  }
}

long Tracee::callAt(uint64_t at, long number, const uint64_t (&arguments)[6]) {
  if (!stopped_) throw Error(ErrorKind::kNoProcess, named(pid_) + " is not stopped");
  arch::Registers registers = saved_;
  arch::setCall(registers, at, number, arguments);
  if (ptrace(PTRACE_SETREGS, tid_, nullptr, &registers)) throw ended(pid_, errno);
  called_ = true;
  atRest_ = false;
  int syscallStops = 0;
  for (int i = 0; i < kMaxStops && syscallStops < 2; i++) {
    resume(PTRACE_SYSCALL);
    const int status = waitInCall();
    if (WSTOPSIG(status) == kSyscallStop) {
      entered_ = ++syscallStops == 1;
    } else if (eventOf(status) == PTRACE_EVENT_CLONE) {
      ptrace(PTRACE_GETEVENTMSG, tid_, nullptr, &eventMessage_);
    } else if (!eventOf(status) && WSTOPSIG(status) == SIGSTOP) {
      stopSignal_ = SIGSTOP;
    } else if (!eventOf(status)) {
      // All signals are blocked, so the kernel has forced this one (SIGSYS, SIGSEGV): the call was not made.
      throw Error(ErrorKind::kFailed, "a system call of leapd's" + inProcess(pid_) + " ended with signal " +
                                          std::to_string(WSTOPSIG(status)) + " (" + strsignal(WSTOPSIG(status)) + ")");
    }
  }
  if (syscallStops < 2) throw Error(ErrorKind::kTimeout, named(pid_) + " is under too many signals: try again later");
  if (ptrace(PTRACE_GETREGS, tid_, nullptr, &registers)) throw ended(pid_, errno);
  return arch::result(registers);
}

long Tracee::call(long number, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e, uint64_t f) {
  return callAt(gadget_, number, {a, b, c, d, e, f});
}

uint64_t Tracee::need(const char* what, long number, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e,
                      uint64_t f) {
  const long result = callAt(gadget_, number, {a, b, c, d, e, f});
  if (result >= 0 || result < -4095) return static_cast<uint64_t>(result);
  const bool limit = result == -ENOMEM || result == -EMFILE || result == -ENFILE || result == -EAGAIN;
  throw Error(limit ? ErrorKind::kLimit : ErrorKind::kFailed,
              std::string("cannot ") + what + inProcess(pid_) + (limit ? ": raise its resource limits (prlimit)" : ""),
              static_cast<int>(-result));
}

void Tracee::poke(uint64_t address, const uint64_t* words, size_t count) {
  for (size_t i = 0; i < count; i++) {
    void* at = reinterpret_cast<void*>(address + i * sizeof *words);
    if (ptrace(PTRACE_POKEDATA, tid_, at, reinterpret_cast<void*>(words[i])))
      throw Error(ErrorKind::kFailed, "cannot write" + inProcess(pid_), errno);
  }
}

void Tracee::write(uint64_t address, const void* bytes, size_t size) {
  iovec local{const_cast<void*>(bytes), size}, remote{reinterpret_cast<void*>(address), size};
  if (process_vm_writev(tid_, &local, 1, &remote, 1, 0) != static_cast<ssize_t>(size))
    throw Error(ErrorKind::kFailed, "cannot write" + inProcess(pid_), errno);
}

void Tracee::read(uint64_t address, void* bytes, size_t size) {
  iovec local{bytes, size}, remote{reinterpret_cast<void*>(address), size};
  if (process_vm_readv(tid_, &local, 1, &remote, 1, 0) != static_cast<ssize_t>(size))
    throw Error(ErrorKind::kFailed, "cannot read" + inProcess(pid_), errno);
}

Tracee::Child Tracee::clone(uint64_t at, uint64_t stack) {
  checkNamespaces(pid_, tid_);
  // Only now: traced earlier, a fork of the thread's own would have been caught instead.
  const long cloning = options_ | PTRACE_O_TRACECLONE | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK;
  if (ptrace(PTRACE_SETOPTIONS, tid_, nullptr, cloning))
    throw Error(ErrorKind::kFailed, "cannot follow a clone" + inProcess(pid_), errno);
  eventMessage_ = 0;
  // CLONE_VM alone, exit signal 0: the same memory, but no thread of the target, and nothing that its wait() would
  // report.
  long inside = -ERESTART;
  for (int attempt = 0; attempt < kCloneTries && (inside == -ERESTART || inside == -kRestartNoIntr); attempt++) {
    inside = callAt(at, SYS_clone, {CLONE_VM, stack, 0, 0, 0, 0});
  }
  ptrace(PTRACE_SETOPTIONS, tid_, nullptr, options_);
  if (inside < 0) {
    const bool limit = inside == -EAGAIN || inside == -ENOMEM;
    throw Error(limit ? ErrorKind::kLimit : ErrorKind::kFailed,
                "cannot clone the helper" + inProcess(pid_) + (limit ? ": raise its limit of processes" : ""),
                static_cast<int>(-inside));
  }
  const Child child{static_cast<pid_t>(eventMessage_), static_cast<pid_t>(inside)};
  if (child.pid <= 0) throw Error(ErrorKind::kFailed, "cannot follow the helper" + inProcess(pid_));
  const int status = waitTraced(ticker_, child.pid, kPatience);
  if (status == -1 || !WIFSTOPPED(status)) {
    ::kill(child.pid, SIGKILL);
    waitTraced(ticker_, child.pid, kPatience);
    throw Error(ErrorKind::kFailed, "the helper of " + named(pid_) + " did not start");
  }
  return child;
}

// A signal is pending that the thread has a handler for: then EINTR is what the program must see.
bool Tracee::handlerIsDue() const {
  std::string status;
  if (!proc::readAll(proc::path(pid_, "task/" + std::to_string(tid_) + "/status"), &status)) return false;
  const auto mask = [&status](const char* name) {
    return std::strtoull(proc::statusField(status, name).c_str(), nullptr, 16);
  };
  return ((mask("SigPnd") | mask("ShdPnd")) & ~savedMask_ & mask("SigCgt")) != 0;
}

void Tracee::restore() {
  arch::Registers registers = saved_;
  if (arch::needsRestart(registers) && !handlerIsDue()) arch::restart(registers);
  ptrace(PTRACE_SETSIGMASK, tid_, sizeof savedMask_, &savedMask_);
  ptrace(PTRACE_SETREGS, tid_, nullptr, &registers);
  resumeDispatch(tid_, dispatch_);
  dispatch_ = {};
  haveSaved_ = called_ = false;
}

// It has died. Its parent hears of that only when its tracer has.
bool Tracee::collect() noexcept {
  for (int i = 0; i < kMaxStops; i++) {
    const int status = waitTraced(ticker_, tid_, std::min(kCollectMilliseconds, patience_.call));
    if (status == -1) return errno == ECHILD;
    if (!WIFSTOPPED(status)) return true;
  }
  return false;
}

void Tracee::release() noexcept {
  if (tid_ < 0) return;
  if (!stopped_ && !gone_) tryStop();
  if (stopped_ && entered_) tryStop();  // a call that has begun is carried out
  // Restored as soon as can be: from then on it comes to no harm, whatever becomes of us.
  if (stopped_ && haveSaved_) restore();
  if (stopped_ && !atRest_) tryStop();
  if (stopped_ && stopSignal_) ::kill(pid_, stopSignal_);
  const bool released = stopped_ && ptrace(PTRACE_DETACH, tid_, nullptr, nullptr) == 0;
  gone_ = gone_ || (stopped_ && !released);
  stopped_ = false;
  if (tid_ >= 0 && !released && !(gone_ && collect())) stragglers.push_back(*this);
  tid_ = -1;
}

}  // namespace leap
