// HelperProcess: the helper as a traced process. It is run, waited for, killed; the memory that it shares with the
// target is read and written.
//
// All calls must come from the thread that attached, because ptrace(2) knows tracers by thread.
#pragma once
#include <sys/types.h>
#include <sys/uio.h>
#include <cstddef>
#include <cstdint>

#include "base/ticker.h"
#include "target/arch_x86_64.h"

namespace leap {

class HelperProcess {
 public:
  explicit HelperProcess(pid_t pid);  // just cloned: stopped, traced by this thread
  ~HelperProcess();                   // kills it
  HelperProcess(const HelperProcess&) = delete;
  HelperProcess& operator=(const HelperProcess&) = delete;

  pid_t pid() const { return pid_; }
  bool lost() const { return state_ != State::kUsable; }
  int exitFd() const { return exit_; }  // a pidfd: readable when the process has died

  // Opens what the functions below need. Throws Error.
  void open();
  // Kills it and collects it as its tracer, within seconds. Its parent, the target, must still wait for it.
  void kill();
  // Binds it to a CPU, best effort: a batch run from another CPU costs several times as much.
  void bindTo(int cpu) const;

  // Runs `count` steps at `steps` by the code at `code`. False: the process is lost.
  bool start(uint64_t code, uint64_t steps, size_t count);
  enum class Progress { kRuns, kEnded, kDied };
  // Waits for the end of what start() began: kEnded or kDied. `registers` are those at the end.
  Progress wait(uint64_t code, arch::Registers* registers);
  // The same without waiting.
  Progress poll(uint64_t code, arch::Registers* registers);
  bool isFrozen() const;  // by the target's control group
  // Moves the process out of the target's control group if that is frozen. Returns whether it did.
  bool thaw() const;

  // Each returns false when not all bytes could be transferred (the target has unmapped them).
  bool write(uint64_t address, const void* bytes, size_t size) const;
  // `count` pieces, `bytes` in all. A page that is absent under userfaultfd would be waited for: see presentMask().
  bool write(const iovec* local, const iovec* remote, size_t count, size_t bytes) const;
  bool read(const iovec* local, const iovec* remote, size_t count, size_t bytes) const;
  // By /proc/PID/mem: ignores page protection, never waits for userfaultfd, and works after the process has died.
  bool readAlways(uint64_t address, void* bytes, size_t size) const;
  // Bit i: page i from `address` has contents (present, or in the kernel's swap), so that reading it raises no fault.
  uint64_t presentMask(uint64_t address, uint32_t pages) const;

 private:
  enum class State { kUsable, kLost, kCollected };

  Progress judge(int waitStatus, uint64_t code, arch::Registers* registers);

  pid_t pid_;
  State state_ = State::kUsable;
  int memory_ = -1, pagemap_ = -1;  // /proc/PID/mem and pagemap: they keep the memory alive when the process dies
  int exit_ = -1;
  Ticker ticker_{false};  // of wait()
  arch::Registers registers_{};
};

}  // namespace leap
