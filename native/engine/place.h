// Where the handler runs decides more than what language it is written in: finding out where a thread runs, going
// there, and measuring what it is worth.
#pragma once
#include <sys/types.h>
#include <cstdint>

namespace leap {

// The CPU that the thread ran on last; -1 when it is gone.
int cpuOfThread(pid_t process, pid_t thread);

// The calling thread runs on this CPU only from now on; -1: on every CPU it had when pinSelf was first called. Returns
// errno.
int pinSelf(int cpu);

// What one fault costs here, p50 in ns, by where the handler is; 0: not measured (a single CPU).
struct Calibration {
  int64_t sameCpuBlocking = 0;
  int64_t otherCpuSpinning = 0;
  int64_t otherCpuBlocking = 0;
};

// A self-test in our own memory, of about 30 ms. Throws Error where userfaultfd is refused.
Calibration calibrate();

}  // namespace leap
