#include "engine/poller.h"

#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>
#include <cerrno>

#include "base/error.h"

namespace leap {
namespace {

constexpr int64_t kNsPerSecond = 1000000000;
constexpr uint32_t kTimerTag = ~0u;

timespec timeOf(int64_t ns) { return {ns / kNsPerSecond, ns % kNsPerSecond}; }

}  // namespace

Poller::Poller()
    : fd_(epoll_create1(EPOLL_CLOEXEC)), timer_(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK)) {
  epoll_event event{EPOLLIN, {.u32 = kTimerTag}};
  if (fd_ >= 0 && timer_ >= 0 && epoll_ctl(fd_, EPOLL_CTL_ADD, timer_, &event) == 0) return;
  const int error = errno;
  close(fd_);
  close(timer_);
  throw Error(ErrorKind::kMemory, "no descriptors to wait with", error);
}

Poller::~Poller() {
  close(timer_);
  close(fd_);
}

void Poller::add(int fd, uint32_t tag) {
  epoll_event event{EPOLLIN, {.u32 = tag}};
  if (fd >= 0 && epoll_ctl(fd_, EPOLL_CTL_ADD, fd, &event))
    throw Error(ErrorKind::kMemory, "cannot wait for a descriptor", errno);
}

void Poller::remove(int fd) {
  if (fd >= 0) epoll_ctl(fd_, EPOLL_CTL_DEL, fd, nullptr);
}

size_t Poller::wait(int64_t timeoutNs, int64_t nowNs) {
  const timespec timeout = timeOf(timeoutNs);
  const bool isLong = timeoutNs >= kLongNs;
  if (isLong && (timerNs_ == 0 || timerNs_ > nowNs + timeoutNs)) {
    timerNs_ = nowNs + timeoutNs;
    const itimerspec once{{}, timeOf(timerNs_)};
    timerfd_settime(timer_, TFD_TIMER_ABSTIME, &once, nullptr);
  }
  const int found = epoll_pwait2(fd_, ready_, kMost, isLong ? nullptr : &timeout, nullptr);
  size_t count = found > 0 ? static_cast<size_t>(found) : 0;
  for (size_t i = 0; i < count; i++) {
    if (ready_[i].data.u32 != kTimerTag) continue;
    uint64_t times;
    [[maybe_unused]] const ssize_t got = read(timer_, &times, sizeof times);
    timerNs_ = 0;
    ready_[i] = ready_[--count];
    break;
  }
  return count;
}

}  // namespace leap
