// One thread of the target, stopped under ptrace for as long as this object lives, and system calls made in its name.
//
//   construct   seize a thread, interrupt it, wait (bounded) until it stands, save registers and signal mask, block all
//   signals call        registers for the call -> PTRACE_SYSCALL to its entry -> to its exit. Not by single steps:
//   their SIGTRAP is forced, and would reset
//               the target's own handling of SIGTRAP where that is blocked or ignored.
//   release     mask and registers restored, an interrupted call restarted, back to the kind of stop that it began
//   with, detach
#pragma once
#include <sys/types.h>
#include <cstddef>
#include <cstdint>

#include "base/error.h"
#include "base/ticker.h"
#include "target/arch_x86_64.h"
#include "target/ptrace_abi.h"

namespace leap {

// What must be known of a traced thread to let go of it. It outlasts the Tracee when the thread cannot be reached for
// the moment.
struct Traced {
  pid_t pid_ = -1, tid_ = -1;
  bool stopped_ = false;
  bool atRest_ = false;     // ... in the kind of stop that it began with
  bool entered_ = false;    // ... before a call of ours
  bool gone_ = false;       // it has died, and its parent does not know before we have collected it
  bool haveSaved_ = false;  // mask and registers, to be restored
  bool called_ = false;     // they are not its own any more
  int stopSignal_ = 0;      // a SIGSTOP that came while we traced: sent again on release
  uint64_t savedMask_ = 0;
  arch::Registers saved_{};
  PtraceDispatch dispatch_;  // syscall user dispatch, to be resumed
};

class Tracee : private Traced {
 public:
  static constexpr int kPatience = 5000;
  // Milliseconds: for it to stop; for a call; and, when a call was late (the target is frozen), for all that is done
  // after that.
  struct Patience {
    int stop = kPatience, call = kPatience, undo = 6 * kPatience;
  };
  explicit Tracee(pid_t pid) : Tracee(pid, Patience{}) {}
  Tracee(pid_t pid, const Patience& patience);  // throws Error
  ~Tracee() { release(); }
  Tracee(const Tracee&) = delete;
  Tracee& operator=(const Tracee&) = delete;

  pid_t pid() const { return pid_; }
  pid_t tid() const { return tid_; }

  // The result as the kernel gives it, -errno on failure. Throws Error "no-process" when the target dies meanwhile.
  long call(long number, uint64_t a = 0, uint64_t b = 0, uint64_t c = 0, uint64_t d = 0, uint64_t e = 0,
            uint64_t f = 0);
  // The same, but a failure is thrown as Error: "cannot <what> in process N".
  uint64_t need(const char* what, long number, uint64_t a = 0, uint64_t b = 0, uint64_t c = 0, uint64_t d = 0,
                uint64_t e = 0, uint64_t f = 0);

  // Writes words of 8 bytes, also to memory that is mapped without PROT_WRITE.
  void poke(uint64_t address, const uint64_t* words, size_t count);
  void write(uint64_t address, const void* bytes, size_t size);
  void read(uint64_t address, void* bytes, size_t size);

  // Clones a process that shares the memory, by the syscall instruction at `at`. It is traced by us, stands behind that
  // instruction, and has all signals blocked. `inside` is its number in the target's own pid namespace.
  struct Child {
    pid_t pid, inside;
  };
  Child clone(uint64_t at, uint64_t stack);

  void release() noexcept;

  // A thread that did not stop in time (it waits in the kernel for a page that we alone can bring, or is frozen) cannot
  // be let go either before it stops. It is kept in mind: the next Tracee of its process takes it, and this lets go of
  // those that have stopped since. Returns true while some are left.
  static bool releaseStragglers() noexcept;
  // For whoever is about to end: waits for those that would go on in a call of ours. Returns true when some are left.
  static bool awaitStragglers(int milliseconds) noexcept;

 private:
  explicit Tracee(const Traced& straggler) : Traced(straggler), patience_{0, 0, 0} {}
  void choose();
  void suspendFilters();
  void save();
  bool seize(pid_t tid);
  int wait(int milliseconds);
  int waitInCall();
  int left() const;
  void awaitStop(int milliseconds);
  void tryStop() noexcept;
  void restore();
  bool collect() noexcept;
  void resume(int request);
  long callAt(uint64_t at, long number, const uint64_t (&arguments)[6]);
  bool handlerIsDue() const;
  Error late(int milliseconds) const;

  Ticker ticker_;
  Patience patience_;
  long options_ = 0;      // of ptrace, in force
  int64_t deadline_ = 0;  // of the undoing, when a call was late
  unsigned long eventMessage_ = 0;
  uint64_t gadget_ = 0;  // address of a syscall instruction in the target
};

// Waits until traced `tid` changes state. Returns its wait status, or -1 with errno: ETIMEDOUT, or ECHILD when it is
// not ours.
int waitTraced(const Ticker& ticker, pid_t tid, int milliseconds);

}  // namespace leap
