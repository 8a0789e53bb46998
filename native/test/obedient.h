// A child of ours that checks its own memory, maps and forks on demand.
#pragma once
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cstdint>
#include <cstdlib>
#include <ctime>

#include "base/layout.h"

namespace obedient {

using leap::kPageSize;

constexpr uint32_t kPages = 256;

inline uint8_t pattern(uint32_t page, uint32_t byte) { return static_cast<uint8_t>(page * 31 + byte * 7 + 1); }

// What the child does when told; it answers 'y' or 'n'.
//   v verify   z verify that the first half is zeros   d MADV_DONTNEED of the first half   m munmap of the first half
//   f fork, the child verifies g fork, the child verifies twice, a while between   t, T start a thread with its stack
//   in the first half   j have it end, and wait for that   q leave
inline bool verify(const uint8_t* memory, uint32_t from) {
  for (uint32_t page = from; page < kPages; page++) {
    for (uint32_t byte = 0; byte < kPageSize; byte += 61) {
      if (memory[size_t{page} * kPageSize + byte] != pattern(page, byte)) return false;
    }
  }
  return true;
}

inline bool zeros(const uint8_t* memory) {
  for (size_t i = 0; i < size_t{kPages} / 2 * kPageSize; i++) {
    if (memory[i]) return false;
  }
  return true;
}

// A thread that waits for a word on `wake`. What glibc keeps of it lies at the top of its stack: the kernel's part in
// page `kThreadPage`.
constexpr uint32_t kThreadPage = 30;
constexpr size_t kThreadLine = 0x2c0;  // from pthread_self() to the kernel's part
struct Waiter {
  int wake[2];
  pthread_t thread;

  // `across`: its first page and that of the kernel's part are two.
  bool start(uint8_t* memory, bool across) {
    size_t top = kThreadPage * size_t{kPageSize};
    if (pipe(wake) || !run(memory, top)) return false;
    const size_t below = memory + top - reinterpret_cast<uint8_t*>(thread),
                 wanted = across ? top - kThreadLine : top + 64;
    return end() && run(memory, wanted + below) && reinterpret_cast<uint8_t*>(thread) == memory + wanted;
  }
  bool run(uint8_t* memory, size_t top) {
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstack(&attributes, memory, top);
    return pthread_create(&thread, &attributes, wait, this) == 0;
  }
  static void* wait(void* self) {
    char byte;
    return read(static_cast<Waiter*>(self)->wake[0], &byte, 1) == 1 ? self : nullptr;
  }
  bool end() {
    if (write(wake[1], "", 1) != 1) return false;
    timespec until{};
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 2;
    return pthread_timedjoin_np(thread, nullptr, &until) == 0;
  }
};

[[noreturn]] inline void live(uint8_t* memory, int orders, int answers) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  uint32_t from = 0;
  Waiter waiter;
  for (char order; read(orders, &order, 1) == 1;) {
    bool good = false;
    int status = 0;
    switch (order) {
      case 'v': good = verify(memory, from); break;
      case 'z': good = zeros(memory); break;
      case 'd':
        good = madvise(memory, size_t{kPages} / 2 * kPageSize, MADV_DONTNEED) == 0;
        from = kPages / 2;
        break;
      case 'm':
        good = munmap(memory, size_t{kPages} / 2 * kPageSize) == 0;
        from = kPages / 2;
        break;
      case 'f': {
        pid_t child = fork();
        if (child == 0) _exit(verify(memory, from) ? 0 : 1);
        good = child > 0 && waitpid(child, &status, 0) == child && status == 0;
        break;
      }
      case 'g': {
        pid_t child = fork();
        if (child == 0) {
          bool before = verify(memory, from);
          usleep(200000);
          _exit(before && verify(memory, from) ? 0 : 1);
        }
        good = child > 0 && waitpid(child, &status, 0) == child && status == 0;
        break;
      }
      case 't':
      case 'T':
        from = kPages / 2;
        good = waiter.start(memory, order == 'T');
        break;
      case 'j': good = waiter.end(); break;
      default: _exit(0);
    }
    if (write(answers, good ? "y" : "n", 1) != 1) break;
  }
  _exit(0);
}

struct Target {
  uint8_t* memory;
  pid_t pid;
  int orders, answers;

  Target() {
    memory = static_cast<uint8_t*>(
        mmap(nullptr, size_t{kPages} * kPageSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    madvise(memory, size_t{kPages} * kPageSize, MADV_NOHUGEPAGE);
    int down[2], up[2];
    if (pipe(down) || pipe(up)) abort();
    pid = fork();
    if (pid == 0) {
      close(down[1]), close(up[0]);
      for (uint32_t page = 0; page < kPages; page++) {
        for (uint32_t byte = 0; byte < kPageSize; byte++) memory[size_t{page} * kPageSize + byte] = pattern(page, byte);
      }
      if (write(up[1], "r", 1) != 1) _exit(1);
      live(memory, down[0], up[1]);
    }
    close(down[0]), close(up[1]);
    orders = down[1], answers = up[0];
    char ready;
    if (read(answers, &ready, 1) != 1) abort();
  }
  ~Target() {
    kill(pid, SIGKILL);
    waitpid(pid, nullptr, 0);
    close(orders), close(answers);
    munmap(memory, size_t{kPages} * kPageSize);
  }
  uint64_t vpn() const { return reinterpret_cast<uint64_t>(memory) / kPageSize; }
  void order(char what) const {
    if (write(orders, &what, 1) != 1) abort();
  }
  bool answered(char* what) const {
    pollfd readable{answers, POLLIN, 0};
    return poll(&readable, 1, 0) == 1 && read(answers, what, 1) == 1;
  }
};

}  // namespace obedient
