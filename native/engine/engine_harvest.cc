// The engine's harvest: waiting, reading what the kernel has to say, and putting it into events in the order that
// engine.h promises.
#include <fcntl.h>
#include <unistd.h>
#include <algorithm>
#include <cerrno>
#include <ctime>

#include "engine/engine.h"
#include "uffd/uffd.h"

namespace leap {
namespace {

constexpr size_t kReadMessages = 64;
// Turns that do not wait look at the userfaultfds only; after this many in a row they look at exits and wakes too.
constexpr uint32_t kLookEvery = 32;
constexpr int64_t kNsPerSecond = 1000000000;
constexpr int64_t kStragglerNs =
    1000000;  // the longest wait while a thread of a child stands still for no reason but our asking (attach.h)
constexpr useconds_t kDeafMicroseconds = 1000;

bool changesMappings(const uffd_msg& message) { return message.event != UFFD_EVENT_PAGEFAULT; }

}  // namespace

int64_t Engine::nowNs() const {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * kNsPerSecond + now.tv_nsec;
}

void Engine::harvest(bool wait, int64_t waitNs) {
  if (!wait) {
    clockNs_[0] = static_cast<double>(nowNs());
    if (++looksSkipped_ >= kLookEvery || spacesEnd_ > 1) {
      look(0);
    } else if (spaces_[0].used) {
      readMessages(0);
    }
    deliver();
    return;
  }
  const uint32_t ours = events_.usedWords();  // of the turn's copies
  // Faults that come fast keep us from the wait below, which sees the rest.
  if (++looksSkipped_ >= kLookEvery) {
    look(0);
    clockNs_[0] = static_cast<double>(nowNs());
    deliver();
    if (events_.usedWords() > ours) return;
  }
  if (ours > 0 && promptFault()) return;
  int64_t left = waitNs;
  if (spinNs_ > 0) {
    int64_t begin = nowNs(), now = begin, end = begin + std::min(spinNs_, waitNs);
    do {
      for (uint32_t i = 0; i < spacesEnd_; i++) {
        if (spaces_[i].used) readMessages(i);
      }
      now = nowNs();
      clockNs_[0] = static_cast<double>(now);
      deliver();
      if (events_.usedWords() > ours) return;
    } while (now < end);
    left -= now - begin;
  }
  look(std::max<int64_t>(left, 0));
  clockNs_[0] = static_cast<double>(nowNs());
  deliver();
}

// Where the thread that a copy has woken shares our CPU it may have run, and faulted again, before we came back from
// the copy: then the fault is there already, and a look is cheaper than a wait. Whether that happens is the scheduler's
// business, so it is learnt.
bool Engine::promptFault() {
  constexpr uint32_t kTrust = 8, kTryEvery = 16;
  if (spacesEnd_ != 1 || (promptness_ == 0 && counters_.turns % kTryEvery != 0)) return false;
  readMessages(0);
  if (pending_.empty()) {
    if (promptness_ > 0) promptness_--;
    return false;
  }
  promptness_ = kTrust;
  clockNs_[0] = static_cast<double>(nowNs());
  deliver();
  return true;
}

// Waits for any descriptor, and reads those that have something to say.
void Engine::look(int64_t timeoutNs) {
  looksSkipped_ = 0;
  if (releaseStragglers()) timeoutNs = std::min(timeoutNs, kStragglerNs);
  // Something that has been read already must not wait for what has not.
  if (fabric_ && timeoutNs > 0 && fabric_->arm()) timeoutNs = 0;  // something has come since the last poll
  const size_t count =
      poller_.wait(pending_.empty() ? timeoutNs : 0, static_cast<int64_t>(std::max(clockNs_[0], clockNs_[1])));
  for (size_t i = 0; i < count; i++) {
    const uint32_t tag = poller_.tag(i), space = (tag - kFirstSpaceTag) / 2;
    if (tag == kSwapTag || tag == kFabricTag) continue;  // harvested at every turn
    if (tag == kWakeTag) {
      uint64_t times;
      woken_ = read(wakeFd_, &times, sizeof times) > 0;
    } else if (tag == messageTag(space)) {
      readMessages(space);
    } else {
      poller_.remove(spaces_[space].attached.pidfd);
      noteGone(space, ESRCH);
    }
  }
}

// Takes what there is, as far as there is room for it: the rest stays in the kernel.
void Engine::readMessages(uint32_t space) {
  uffd_msg messages[kReadMessages];
  for (;;) {
    if (pending_.size() + kReadMessages > std::min(pending_.capacity(), events_.room())) return;
    ssize_t got = read(spaces_[space].attached.uffd, messages, sizeof messages);
    if (got < 0 && errno != EAGAIN && errno != EINTR) deaf(space, errno);
    if (got <= 0) return;
    spaces_[space].deaf = false;
    size_t count = static_cast<size_t>(got) / sizeof *messages;
    batchSpace_ = space;
    for (size_t i = 0; i < count; i++) message(messages[i]);
    if (count < kReadMessages) return;
  }
}

// A child's descriptor comes with the message of its fork, and there was none to be had: the message stays, and who
// forks waits. Others are served.
void Engine::deaf(uint32_t space, int error) {
  if (!spaces_[space].deaf) events_.add(Event::kFork, static_cast<int32_t>(space), -1, error);
  spaces_[space].deaf = true;
  usleep(kDeafMicroseconds);  // the descriptor stays readable
}

void Engine::message(const uffd_msg& message) {
  if (changesMappings(message)) spaces_[batchSpace_].changing = true;
  pending_.push_back({batchSpace_, message});
}

void Engine::deliver() {
  if (!pending_.empty()) deliverPending();
  if (!swap_.idle()) swap_.harvest(events_.room(), *this);
  if (remote_) remote_->harvest(events_.room(), nowNs(), *this);
  deliverRest();
}

void Engine::deliverPending() {
  // There is room for all, but for a target that storms us with events while the helper works: then what is left comes
  // first in the next turn.
  size_t now = std::min(pending_.size(), events_.room());
  for (size_t i = 0; i < now; i++) {
    if (changesMappings(pending_[i].body)) deliverChange(pending_[i]);
  }
  for (size_t i = 0; i < now; i++) {
    if (!changesMappings(pending_[i].body)) deliverFault(pending_[i]);
  }
  pending_.erase(pending_.begin(), pending_.begin() + static_cast<ptrdiff_t>(now));
  for (uint32_t i = 0; i < spacesEnd_; i++) spaces_[i].changing = false;
  for (const Message& left : pending_) {
    if (changesMappings(left.body)) spaces_[left.space].changing = true;
  }
}

void Engine::deliverFault(const Message& message) {
  const auto& fault = message.body.arg.pagefault;
  uint64_t vpn = fault.address / kPageSize;
  auto flags = static_cast<int32_t>(fault.flags & (UFFD_PAGEFAULT_FLAG_WRITE | UFFD_PAGEFAULT_FLAG_WP));
  auto thread = static_cast<int32_t>(fault.feat.ptid);
  auto space = static_cast<int32_t>(message.space);
  if (const Range* range = ranges_.ofVpn(message.space, vpn)) {
    events_.add(Event::kFault, static_cast<int32_t>(range->first + (vpn - range->start)), thread, flags, space);
  } else {
    events_.add(Event::kFaultUnknown, space, vpnLow(vpn), vpnHigh(vpn), thread, flags);
  }
}

void Engine::deliverChange(const Message& message) {
  const auto& arg = message.body.arg;
  auto space = static_cast<int32_t>(message.space);
  Attached& attached = spaces_[message.space].attached;
  switch (message.body.event) {
    case UFFD_EVENT_FORK: deliverFork(message); break;
    case UFFD_EVENT_REMAP: {
      uint64_t from = arg.remap.from / kPageSize, to = arg.remap.to / kPageSize, pages = arg.remap.len / kPageSize;
      events_.add(Event::kRemap, space, vpnLow(from), vpnHigh(from), vpnLow(to), vpnHigh(to),
                  static_cast<int32_t>(pages));
      uffd::wake(attached.uffd, arg.remap.from,
                 arg.remap.len);  // who waits at the old address finds no mapping there any more
      break;
    }
    case UFFD_EVENT_REMOVE:
    case UFFD_EVENT_UNMAP: {
      uint64_t start = arg.remove.start / kPageSize, end = (arg.remove.end + kPageSize - 1) / kPageSize;
      bool remove = message.body.event == UFFD_EVENT_REMOVE;
      events_.add(remove ? Event::kRemove : Event::kUnmap, space, vpnLow(start), vpnHigh(start), vpnLow(end),
                  vpnHigh(end));
      if (remove) {
        removed_.push_back({message.space, start, end});
      } else {
        uffd::wake(attached.uffd, start * kPageSize, (end - start) * kPageSize);
      }
      break;
    }
    default: break;  // an event that was not asked for
  }
}

// The descriptor in the message is ours already: the kernel installed it as we read.
void Engine::deliverFork(const Message& message) {
  int fd = static_cast<int>(message.body.arg.fork.ufd);
  fcntl(fd, F_SETFD, FD_CLOEXEC);
  fcntl(fd, F_SETFL, O_NONBLOCK);
  uint32_t child = 1;
  while (child < kMaxSpaces && spaces_[child].used) child++;
  if (child == kMaxSpaces) {
    orphans_.push_back(fd);
    events_.add(Event::kFork, static_cast<int32_t>(message.space), -1);
    return;
  }
  spaces_[child] = Space{};
  spaces_[child].used = true;
  spaces_[child].parent = message.space;
  spaces_[child].attached.uffd = fd;
  spaces_[child].attached.features = spaces_[message.space].attached.features;
  spacesEnd_ = std::max(spacesEnd_, child + 1);
  poller_.add(fd, messageTag(child));
  events_.add(Event::kFork, static_cast<int32_t>(message.space), static_cast<int32_t>(child));
}

void Engine::deliverRest() {
  for (uint32_t i = 0; i < spacesEnd_; i++) {
    if (!spaces_[i].announce || events_.room() == 0) continue;
    spaces_[i].announce = false;
    events_.add(Event::kTargetExit, static_cast<int32_t>(i));
  }
  if (fabric_ && fabric_->hasEvent() && events_.room() > 0) events_.add(Event::kFabric);
  if (woken_ && events_.room() > 0) {
    woken_ = false;
    events_.add(Event::kWake);
  }
}

}  // namespace leap
