// The poller: what it reports, how long it waits, what it forgets.
#include "engine/poller.h"

#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include <initializer_list>

#include "expect.h"

using leap::Poller;

namespace {

constexpr int64_t kMs = 1000000;

int64_t now() {
  timespec at{};
  clock_gettime(CLOCK_MONOTONIC, &at);
  return at.tv_sec * 1000 * kMs + at.tv_nsec;
}

struct Source {
  int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  ~Source() { close(fd); }
  void raise() const {
    uint64_t one = 1;
    EXPECT(write(fd, &one, sizeof one) == sizeof one);
  }
  void lower() const {
    uint64_t times;
    EXPECT(read(fd, &times, sizeof times) == sizeof times);
  }
};

void reports() {
  Poller poller;
  Source sources[3];
  for (uint32_t i = 0; i < 3; i++) poller.add(sources[i].fd, i);
  poller.add(-1, 9);
  EXPECT(poller.wait(0, 0) == 0);
  sources[0].raise(), sources[2].raise();
  EXPECT(poller.wait(1000 * kMs, now()) == 2);
  EXPECT(poller.tag(0) + poller.tag(1) == 2 && poller.tag(0) != poller.tag(1));
  sources[0].lower();
  EXPECT(poller.wait(0, 0) == 1 && poller.tag(0) == 2);
  poller.remove(sources[2].fd);
  EXPECT(poller.wait(0, 0) == 0);
}

void waits() {
  Poller poller;
  for (int64_t timeout : {2 * kMs, 40 * kMs, 60 * kMs, 30 * kMs, 5 * kMs}) {
    int64_t begin = now();
    size_t found = poller.wait(timeout, begin);
    int64_t took = now() - begin;
    EXPECT(found == 0 && took >= timeout - kMs / 10 && took < timeout + 1000 * kMs);
  }
}

// A long wait leaves its timer set: a shorter one must not wait for that, and a longer one may end with it.
void timers() {
  Poller poller;
  Source source;
  poller.add(source.fd, 1);
  source.raise();
  EXPECT(poller.wait(400 * kMs, now()) == 1);
  source.lower();
  int64_t begin = now();
  EXPECT(poller.wait(50 * kMs, begin) == 0);
  EXPECT(now() - begin < 300 * kMs);
  EXPECT(poller.wait(0, 0) == 0);
}

}  // namespace

int main() {
  leap::testing::run("poller reports what is ready", reports);
  leap::testing::run("poller waits as long as it is told", waits);
  leap::testing::run("poller keeps one timer", timers);
  return leap::testing::failed;
}
