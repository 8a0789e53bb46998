#include "target/arch_x86_64.h"

#include <sys/syscall.h>
#include <cerrno>
#include <cstring>

#ifndef __x86_64__
#error "leap runs on x86-64 only; another processor needs its own arch file"
#endif

namespace leap::arch {

void setCall(Registers& registers, uint64_t at, long number, const uint64_t (&arguments)[6]) {
  registers.rax = static_cast<uint64_t>(number);
  registers.rdi = arguments[0];
  registers.rsi = arguments[1];
  registers.rdx = arguments[2];
  registers.r10 = arguments[3];
  registers.r8 = arguments[4];
  registers.r9 = arguments[5];
  registers.orig_rax = ~0ull;  // not in a system call: nothing for the kernel to restart
  registers.rip = at;
}

bool is64Bit(const Registers& registers) { return registers.cs == 0x33; }

bool needsRestart(const Registers& registers) {
  const long number = static_cast<long>(registers.orig_rax);
  // close releases the descriptor also when it gives EINTR: again, it could close another thread's new one.
  return number >= 0 && static_cast<long>(registers.rax) == -EINTR && number != SYS_close;
}

void restart(Registers& registers) {
  registers.rax = registers.orig_rax;
  registers.orig_rax = ~0ull;
  registers.rip -= 2;  // the length of a syscall instruction
}

size_t findSyscall(const uint8_t* code, size_t size) {
  for (size_t i = 0; i + 1 < size; i++) {
    if (code[i] == 0x0f && code[i + 1] == 0x05) return i;
  }
  return size;
}

// glibc's struct pthread is aligned to 64 bytes, and all of that lies in its line at 0x2c0. (musl clears a word of its
// own .bss instead.)
bool holdsThread(const uint8_t* page) {
  struct Line {
    uint64_t next, previous;  // of the list of stacks
    int32_t tid, unused;
    uint64_t robustPrevious, robustList;
    int64_t futexOffset;  // from the links of a pthread_mutex_t to its lock: the one constant here
    uint64_t pending;
  };
  constexpr size_t kLine = 64, kPage = 4096;
  constexpr int64_t kFutexOffset = -32;
  constexpr int32_t kMaxTid = 1 << 22;
  static_assert(sizeof(Line) <= kLine && offsetof(Line, tid) == 0x10 && offsetof(Line, futexOffset) == 0x28);
  const auto pointer = [](uint64_t word) { return word >> 16 != 0 && word >> 47 == 0; };
  for (size_t at = 0; at < kPage; at += kLine) {
    int64_t offset;
    memcpy(&offset, page + at + offsetof(Line, futexOffset), sizeof offset);
    if (offset != kFutexOffset) continue;
    Line line;
    memcpy(&line, page + at, sizeof line);
    if (line.tid > 0 && line.tid <= kMaxTid && pointer(line.next) && pointer(line.previous) &&
        pointer(line.robustPrevious) && pointer(line.robustList)) {
      return true;
    }
  }
  return false;
}

const uint8_t kCode[kCodeSize] = {
    0x0f, 0x05,                    // call:    syscall
    0x31, 0xff,                    // leave:   xor %edi,%edi
    0xb8, 0x3c, 0x00, 0x00, 0x00,  //          mov $60,%eax      exit
    0x0f, 0x05,                    //          syscall
    0xf4, 0x90, 0x90, 0x90, 0x90,  //          hlt
    0x48, 0x8b, 0x03,              // program: mov (%rbx),%rax   number
    0x48, 0x8b, 0x7b, 0x08,        //          mov 8(%rbx),%rdi
    0x48, 0x8b, 0x73, 0x10,        //          mov 16(%rbx),%rsi
    0x48, 0x8b, 0x53, 0x18,        //          mov 24(%rbx),%rdx
    0x4c, 0x8b, 0x53, 0x20,        //          mov 32(%rbx),%r10
    0x4c, 0x8b, 0x43, 0x28,        //          mov 40(%rbx),%r8
    0x0f, 0x05,                    //          syscall
    0x48, 0x89, 0x43, 0x30,        //          mov %rax,48(%rbx) result
    0x49, 0x09, 0xc4,              //          or %rax,%r12      any result that is not 0
    0x48, 0x83, 0xc3, 0x60,        //          add $96,%rbx
    0x48, 0xff, 0xcd,              //          dec %rbp
    0x75, 0xd7,                    //          jnz program
    0xcc,                          //          int3              back to the tracer
    0xeb, 0xc6,                    //          jmp leave         nobody traces us
};

namespace {
constexpr uint64_t kProgramOffset = 16;
constexpr uint64_t kProgramEnd = sizeof kCode - 2;  // behind the int3
static_assert(sizeof kCode == kProgramOffset + 41 + 3, "the jumps in kCode are computed by hand");
static_assert(kStepStride == 0x60, "the stride is in kCode");
static_assert(offsetof(CallStep, arguments) == 8 && offsetof(CallStep, result) == 48, "the offsets are in kCode");
}  // namespace

void setProgram(Registers& registers, uint64_t code, uint64_t steps, size_t count) {
  registers.rip = code + kProgramOffset;
  registers.rbx = steps;
  registers.rbp = count;
  registers.r12 = 0;
  registers.orig_rax = ~0ull;
}

bool programEnded(const Registers& registers, uint64_t code) { return registers.rip == code + kProgramEnd; }

bool programAllZero(const Registers& registers) { return registers.r12 == 0; }

}  // namespace leap::arch
