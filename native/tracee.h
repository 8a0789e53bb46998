// One thread of the target, stopped under ptrace for as long as this object lives, and system calls made in its name.
//
//   construct   seize a thread, interrupt it, wait (bounded) until it stands, save registers and signal mask, block all signals
//   call        registers for the call -> PTRACE_SYSCALL to its entry -> to its exit. Not by single steps: their SIGTRAP is forced, and would reset
//               the target's own handling of SIGTRAP where that is blocked or ignored.
//   release     back to the kind of stop that it began with, mask and registers restored, an interrupted call restarted, detach
#pragma once
#include <sys/types.h>
#include <cstddef>
#include <cstdint>

#include "arch_x86_64.h"
#include "error.h"
#include "ticker.h"

namespace leap {

class Tracee {
 public:
  static constexpr int kPatience = 5000;
  explicit Tracee(pid_t pid, int milliseconds = kPatience);  // throws Error
  ~Tracee() { release(); }
  Tracee(const Tracee&) = delete;
  Tracee& operator=(const Tracee&) = delete;

  pid_t pid() const { return pid_; }
  pid_t tid() const { return tid_; }
  bool filtered() const { return filtered_; }  // under a seccomp filter, suspended while we trace

  // The result as the kernel gives it, -errno on failure. Throws Error "no-process" when the target dies meanwhile.
  long call(long number, uint64_t a = 0, uint64_t b = 0, uint64_t c = 0, uint64_t d = 0, uint64_t e = 0, uint64_t f = 0);
  // The same, but a failure is thrown as Error: "cannot <what> in process N".
  uint64_t need(const char* what, long number, uint64_t a = 0, uint64_t b = 0, uint64_t c = 0, uint64_t d = 0, uint64_t e = 0, uint64_t f = 0);

  void write(uint64_t address, const void* bytes, size_t size);
  void read(uint64_t address, void* bytes, size_t size);

  // Clones a process that shares the memory, by the syscall instruction at `at`. It is traced by us, stands behind that instruction, and has all
  // signals blocked. `inside` is its number in the target's own pid namespace.
  struct Child {
    pid_t pid, inside;
  };
  Child clone(uint64_t at, uint64_t stack);

  void release() noexcept;

  // A thread that did not stop in time (in the kernel, waiting for a page that we alone can bring) cannot be let go either before it stops. It is kept in
  // mind: the next Tracee of its process takes it, and this lets go of those that have stopped since. Returns true while some are left.
  static bool releaseStragglers() noexcept;

 private:
  void choose();
  bool seize(pid_t tid);
  int wait(int milliseconds);
  void awaitStop();
  void resume(int request);
  long callAt(uint64_t at, long number, const uint64_t (&arguments)[6]);
  bool handlerIsDue() const;
  void findGadget();

  Ticker ticker_;
  pid_t pid_, tid_ = -1;
  int patience_;
  bool stopped_ = false, gone_ = false, filtered_ = false, called_ = false, haveSaved_ = false;
  int stopSignal_ = 0;  // a SIGSTOP that came while we traced: sent again on release
  unsigned long eventMessage_ = 0;
  uint64_t gadget_ = 0, savedMask_ = 0;
  arch::Registers saved_{};
};

// Waits until traced `tid` changes state. Returns its wait status, or -1 when the time is over or it is not ours.
int waitTraced(const Ticker& ticker, pid_t tid, int milliseconds);

}  // namespace leap
