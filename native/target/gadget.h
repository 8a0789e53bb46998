// A syscall instruction in the target's own code, to make system calls with before leapd has code there.
#pragma once
#include <sys/types.h>
#include <cstdint>

namespace leap {

// Its address, or 0. `tid` is a stopped thread of process `pid`.
uint64_t findSyscall(pid_t pid, pid_t tid);

}  // namespace leap
