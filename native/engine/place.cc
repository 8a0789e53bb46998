#include "engine/place.h"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <sys/mman.h>
#include <unistd.h>
#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "base/error.h"
#include "base/layout.h"
#include "uffd/uffd.h"
#include "uffd/uffd_abi.h"

namespace leap {
namespace {

constexpr uint32_t kMostFaults = 400;
constexpr int64_t kCaseNs = 10000000;
constexpr int kCpuField = 39;  // of /proc/PID/stat, counted from 1: proc(5)

int64_t nowNs() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1000000000ll + now.tv_nsec;
}

int pinTo(int cpu) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(static_cast<size_t>(cpu), &set);
  return sched_setaffinity(0, sizeof set, &set) == 0 ? 0 : errno;
}

struct Bench {
  int uffd = -1;
  uint8_t* memory = nullptr;
  uint8_t page[kPageSize] = {};
  std::atomic<bool> over{false};
  std::vector<int64_t> samples;

  Bench() {
    uffd = uffd::open(0, nullptr);
    if (uffd < 0) throw Error(ErrorKind::kNotPermitted, "userfaultfd is refused to this process", errno);
    void* mapped =
        mmap(nullptr, size_t{kMostFaults} * kPageSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memory = mapped == MAP_FAILED ? nullptr : static_cast<uint8_t*>(mapped);
    int error = memory ? 0 : ENOMEM;
    if (memory) madvise(memory, size_t{kMostFaults} * kPageSize, MADV_NOHUGEPAGE);
    if (!error)
      error = uffd::registerRange(uffd, reinterpret_cast<uint64_t>(memory), uint64_t{kMostFaults} * kPageSize);
    if (error) {
      release();
      throw Error(ErrorKind::kFailed, "the calibration has no memory to fault on", error);
    }
    samples.reserve(kMostFaults);
  }
  ~Bench() { release(); }
  Bench(const Bench&) = delete;
  Bench& operator=(const Bench&) = delete;

  void release() {
    if (memory) munmap(memory, size_t{kMostFaults} * kPageSize);
    if (uffd >= 0) close(uffd);
    memory = nullptr;
    uffd = -1;
  }

  void serve(int cpu, bool spin) {
    pinTo(cpu);
    while (!over.load(std::memory_order_relaxed)) {
      uffd_msg message;
      if (!spin) {
        pollfd readable{uffd, POLLIN, 0};
        poll(&readable, 1, 1);
      }
      if (read(uffd, &message, sizeof message) != sizeof message) continue;
      uint64_t done = 0;
      uffd::copy(uffd, message.arg.pagefault.address & ~uint64_t{kPageSize - 1}, page, kPageSize, &done);
    }
  }

  void touch(int cpu) {
    pinTo(cpu);
    int64_t end = nowNs() + kCaseNs;
    for (uint32_t i = 0; i < kMostFaults && nowNs() < end; i++) {
      int64_t begin = nowNs();
      *const_cast<volatile uint8_t*>(memory + size_t{i} * kPageSize);
      samples.push_back(nowNs() - begin);
    }
    over = true;
  }
};

int64_t median(int toucherCpu, int handlerCpu, bool spin) {
  Bench bench;
  std::thread handler([&] { bench.serve(handlerCpu, spin); });
  std::thread toucher([&] { bench.touch(toucherCpu); });
  toucher.join();
  handler.join();
  auto middle = bench.samples.begin() + static_cast<ptrdiff_t>(bench.samples.size() / 2);
  std::nth_element(bench.samples.begin(), middle, bench.samples.end());
  return middle == bench.samples.end() ? 0 : *middle;
}

}  // namespace

int cpuOfThread(pid_t process, pid_t thread) {
  char path[64], text[1024];
  snprintf(path, sizeof path, "/proc/%d/task/%d/stat", process, thread);
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return -1;
  ssize_t got = read(fd, text, sizeof text - 1);
  close(fd);
  if (got <= 0) return -1;
  text[got] = 0;
  const char* at = strrchr(text, ')');  // the name before it may hold anything
  for (int field = 2; at && field < kCpuField; field++) at = strchr(at + 1, ' ');
  return at ? atoi(at + 1) : -1;
}

int pinSelf(int cpu) {
  static thread_local cpu_set_t all;
  static thread_local bool known = false;
  if (!known && sched_getaffinity(0, sizeof all, &all) != 0) return errno;
  known = true;
  if (cpu >= 0) return pinTo(cpu);
  return sched_setaffinity(0, sizeof all, &all) == 0 ? 0 : errno;
}

Calibration calibrate() {
  cpu_set_t allowed;
  if (sched_getaffinity(0, sizeof allowed, &allowed) != 0)
    throw Error(ErrorKind::kFailed, "cannot read the CPU affinity of leapd", errno);
  int cpus[2] = {-1, -1};
  for (int cpu = 0, found = 0; cpu < CPU_SETSIZE && found < 2; cpu++) {
    if (CPU_ISSET(static_cast<size_t>(cpu), &allowed)) cpus[found++] = cpu;
  }
  Calibration result;
  result.sameCpuBlocking = median(cpus[0], cpus[0], false);
  if (cpus[1] < 0) return result;
  result.otherCpuSpinning = median(cpus[0], cpus[1], true);
  result.otherCpuBlocking = median(cpus[0], cpus[1], false);
  return result;
}

}  // namespace leap
