// Requests of ptrace(2) that older headers lack. The numbers are kernel ABI and never change.
#pragma once
#include <cstdint>

namespace leap {

// The restartable sequences (rseq) of a thread. Linux 5.13.
inline constexpr int kPtraceGetRseq = 0x420f;
struct PtraceRseq {
  uint64_t address;  // of the thread's struct rseq; 0: it has none
  uint32_t size, signature, flags, unused;
};

// Syscall user dispatch of a thread. Linux 6.4.
inline constexpr int kPtraceSetDispatch = 0x4210;
inline constexpr int kPtraceGetDispatch = 0x4211;
struct PtraceDispatch {
  uint64_t mode = 0;  // PR_SYS_DISPATCH_OFF or PR_SYS_DISPATCH_ON
  uint64_t selector = 0, offset = 0, length = 0;
};

static_assert(sizeof(PtraceRseq) == 24 && sizeof(PtraceDispatch) == 32, "ptrace ABI");

}  // namespace leap
