// All that depends on the processor: registers of a stopped thread, and the few instructions that run in the target's
// address space.
#pragma once
#include <sys/user.h>
#include <cstddef>
#include <cstdint>

namespace leap::arch {

using Registers = user_regs_struct;

// A system call at `at`, the address of a syscall instruction.
void setCall(Registers& registers, uint64_t at, long number, const uint64_t (&arguments)[6]);
inline long result(const Registers& registers) { return static_cast<long>(registers.rax); }
inline unsigned long long& programCounter(Registers& registers) { return registers.rip; }
bool is64Bit(const Registers& registers);

// True when the thread was stopped at the end of a system call that gave EINTR only for our sake: the kernel restarts
// most calls by itself, but not epoll_wait, sigtimedwait, semop and others. The caller makes sure that no signal
// handler is due.
bool needsRestart(const Registers& registers);
void restart(Registers& registers);

// Offset of a syscall instruction in code[0, size), or size.
size_t findSyscall(const uint8_t* code, size_t size);

// True when the page holds what the kernel touches of a thread that exits: the number that it clears (set_tid_address),
// which pthread_join waits for, and the list of robust mutexes. It does not wait for a page that has been taken out
// just then: the join would never end.
bool holdsThread(const uint8_t* page);

// A step of a program of system calls: the helper runs a table of them without coming back to us.
struct CallStep {
  int64_t number;
  uint64_t arguments[5];
  int64_t result;
};
inline constexpr size_t kStepStride = 96;  // a CallStep and 40 bytes for the request that it may point to

// The code page. At kCallOffset: a syscall instruction for clone; whoever runs on behind it, untraced, exits.
inline constexpr size_t kCodeSize = 60;
extern const uint8_t kCode[kCodeSize];
inline constexpr uint64_t kCallOffset = 0;
void setProgram(Registers& registers, uint64_t code, uint64_t steps, size_t count);
bool programEnded(const Registers& registers, uint64_t code);
// True when every step of the program gave 0.
bool programAllZero(const Registers& registers);

}  // namespace leap::arch
