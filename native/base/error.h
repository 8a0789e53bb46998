// Error: an expected failure. It has a message of one line (the cause, then what to do), an errno, and a kind that
// tests, the addon's callers and exit codes depend on.
#pragma once
#include <cstring>
#include <stdexcept>
#include <string>

namespace leap {

enum class ErrorKind {
  // Of the target.
  kNoProcess,
  kKernelThread,
  kSelf,
  kHelper,
  kZombie,
  kTraced,
  kAlreadyManaged,
  kOrphaned,
  k32Bit,
  kSeccomp,
  kDispatch,   // a thread is under syscall user dispatch that cannot be suspended
  kNamespace,  // its children would be in another namespace than itself
  kFrozen,     // by its control group
  kTimeout,    // no thread of it could be stopped in time
  kLimit,      // it lacks descriptors, processes or address space
  // Of this machine.
  kNotPermitted,
  kKernelTooOld,
  kMemory,
  kMemlock,
  kSwap,
  kRdma,
  kListen,
  // Of a call.
  kBadArgument,
  kGone,      // the forked child, or its parent, has ended
  kInjected,  // tests only: attach.h, failAtStep
  kFailed,
};

// The kind as the addon gives it to JavaScript. These words never change.
constexpr const char* wordOf(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::kNoProcess: return "no-process";
    case ErrorKind::kKernelThread: return "kernel-thread";
    case ErrorKind::kSelf: return "self";
    case ErrorKind::kHelper: return "helper";
    case ErrorKind::kZombie: return "zombie";
    case ErrorKind::kTraced: return "traced";
    case ErrorKind::kAlreadyManaged: return "already-managed";
    case ErrorKind::kOrphaned: return "orphaned";
    case ErrorKind::k32Bit: return "32-bit";
    case ErrorKind::kSeccomp: return "seccomp";
    case ErrorKind::kDispatch: return "dispatch";
    case ErrorKind::kNamespace: return "namespace";
    case ErrorKind::kFrozen: return "frozen";
    case ErrorKind::kTimeout: return "timeout";
    case ErrorKind::kLimit: return "limit";
    case ErrorKind::kNotPermitted: return "not-permitted";
    case ErrorKind::kKernelTooOld: return "kernel-too-old";
    case ErrorKind::kMemory: return "memory";
    case ErrorKind::kMemlock: return "memlock";
    case ErrorKind::kSwap: return "swap";
    case ErrorKind::kRdma: return "rdma";
    case ErrorKind::kListen: return "listen";
    case ErrorKind::kBadArgument: return "bad-argument";
    case ErrorKind::kGone: return "gone";
    case ErrorKind::kInjected: return "injected";
    case ErrorKind::kFailed: return "failed";
  }
  return "failed";
}

struct Error : std::runtime_error {
  ErrorKind kind;
  int code;  // errno, or 0
  Error(ErrorKind why, const std::string& what, int errnoValue = 0)
      : std::runtime_error(errnoValue ? what + " (" + std::strerror(errnoValue) + ")" : what),
        kind(why),
        code(errnoValue) {}
};

}  // namespace leap
