// State of a stopped thread, besides its registers, that a system call made in its name would damage.
#pragma once
#include <sys/types.h>

#include "target/arch_x86_64.h"
#include "target/ptrace_abi.h"

namespace leap {

// A restartable sequence (rseq) must be aborted when anything else runs in its thread: the kernel forgets it at the
// first return to user mode outside it. If `registers` are inside one, moves them to its abort handler, as the kernel
// does at a preemption. Returns false when the thread's struct rseq cannot be read (its page is stored).
bool abortRestartableSequence(pid_t tid, arch::Registers& registers);

// Under syscall user dispatch (Wine) the kernel turns a call from outside a given range into SIGSYS. Switches it off
// and sets `saved` for resumeDispatch. Returns false when it is on and could not be switched on again.
bool suspendDispatch(pid_t tid, PtraceDispatch& saved);
void resumeDispatch(pid_t tid, const PtraceDispatch& saved);

}  // namespace leap
