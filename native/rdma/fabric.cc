// The fabric as a whole: its beginning and end, the descriptors it waits for, the deadlines, and the events on their
// way to the caller.
#ifdef LEAP_RDMA
#include <fcntl.h>
#include <rdma/rdma_cma.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>
#include <cerrno>
#include <ctime>

#include "base/error.h"
#include "rdma/fabric_impl.h"

namespace leap {

int64_t Fabric::Impl::nowNs() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return int64_t{now.tv_sec} * 1000000000 + now.tv_nsec;
}

void Fabric::Impl::setNonBlocking(int fd) { fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK); }

Fabric::Impl::Impl(const FabricOptions& given) : options(given) {
  std::string why = whyNot();
  if (!why.empty()) throw Error(ErrorKind::kRdma, why);
  channel = rdma_create_event_channel();
  if (!channel) throw Error(ErrorKind::kRdma, "cannot open the RDMA connection manager", errno);
  setNonBlocking(channel->fd);
  poller = epoll_create1(EPOLL_CLOEXEC);
  timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
  if (poller < 0 || timer < 0) throw Error(ErrorKind::kRdma, "no more descriptors", errno);
  watch(channel->fd, Tag::kChannel, 0);
  watch(timer, Tag::kTimer, 0);
}

Fabric::Impl::~Impl() {
  for (auto& [number, link] : links) release(*link, ECANCELED);
  for (rdma_cm_id* id : listeners) rdma_destroy_id(id);
  if (channel) rdma_destroy_event_channel(channel);
  if (timer >= 0) ::close(timer);
  if (poller >= 0) ::close(poller);
}

void Fabric::Impl::watch(int fd, Tag tag, uint32_t number) {
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.u64 = uint64_t{static_cast<uint32_t>(tag)} << 32 | number;
  if (epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event) != 0 && errno != EEXIST)
    throw Error(ErrorKind::kRdma, "cannot watch a descriptor", errno);
}

void Fabric::Impl::say(EventKind kind, const Link& link, std::string text, int error, std::vector<uint8_t> data) {
  events.push_back({kind, link.number, error, link.peer, std::move(text), std::move(data)});
}

void Fabric::Impl::look(int64_t now) {
  lookDue = false;
  lookedNs = now;
  epoll_event ready[64];
  const int count = epoll_wait(poller, ready, 64, 0);
  if (count == 64) lookDue = true;
  for (int i = 0; i < count; i++) {
    switch (static_cast<Tag>(ready[i].data.u64 >> 32)) {
      case Tag::kChannel: takeManagerEvents(); break;
      case Tag::kTimer: {
        uint64_t times;
        if (read(timer, &times, sizeof times) > 0) endOverdue(now);
        break;
      }
      case Tag::kDevice: takeDeviceEvents(); break;
      case Tag::kCompletion:
        if (Link* link = find(static_cast<uint32_t>(ready[i].data.u64)); link && link->channel) takeNotices(*link);
        break;
    }
  }
}

void Fabric::Impl::setDeadline(Link& link, int ms) {
  link.deadlineNs = nowNs() + int64_t{ms} * 1000000;
  setTimer();
}

void Fabric::Impl::setTimer() {
  int64_t soonest = 0;
  for (auto& [number, link] : links) {
    if (link->deadlineNs && (!soonest || link->deadlineNs < soonest)) soonest = link->deadlineNs;
  }
  itimerspec when{};
  when.it_value = {soonest / 1000000000, soonest % 1000000000};
  timerfd_settime(timer, TFD_TIMER_ABSTIME, &when, nullptr);
}

void Fabric::Impl::endOverdue(int64_t now) {
  for (auto& [number, link] : links) {
    if (!link->deadlineNs || link->deadlineNs > now) continue;
    fail(*link, link->state == State::kConnected ? "the RDMA device has failed" : "no answer in time", ETIMEDOUT);
  }
  setTimer();
}

Fabric::Fabric(const FabricOptions& options) : impl_(std::make_unique<Impl>(options)) {}
Fabric::~Fabric() = default;

int Fabric::fd() const { return impl_->poller; }

bool Fabric::hasEvent() const { return !impl_->events.empty(); }

bool Fabric::nextEvent(Event* event) {
  if (impl_->events.empty()) return false;
  *event = std::move(impl_->events.front());
  impl_->events.pop_front();
  return true;
}

uint32_t Fabric::inFlight() const { return impl_->inFlight; }

}  // namespace leap

#endif
