// The descriptors that the engine waits for. What is waited for is told once and not at each wait, and a long wait sets
// no timer of its own: a wait is part of every fault (0.6 us less each than with ppoll and a timeout).
#pragma once
#include <sys/epoll.h>
#include <cstddef>
#include <cstdint>

namespace leap {

class Poller {
 public:
  Poller();  // throws Error
  ~Poller();
  Poller(const Poller&) = delete;
  Poller& operator=(const Poller&) = delete;

  // Tags are the caller's, from 0 up. A negative descriptor is passed over.
  void add(int fd, uint32_t tag);
  // To be called before the descriptor is closed: the target holds the same open file, and as long as that is open the
  // watch would go on.
  void remove(int fd);
  // Waits for any, up to that long; a wait of kLongNs and more may end early. Returns how many tags there are. `nowNs`
  // is CLOCK_MONOTONIC, lately.
  size_t wait(int64_t timeoutNs, int64_t nowNs);
  uint32_t tag(size_t i) const { return ready_[i].data.u32; }

 private:
  static constexpr size_t kMost = 64;  // reported by one wait; the others by the next
  static constexpr int64_t kLongNs = 20000000;

  int fd_ = -1;
  int timer_ = -1;
  int64_t timerNs_ = 0;  // when it goes off; 0: it is not set
  epoll_event ready_[kMost];
};

}  // namespace leap
