#include "engine/engine.h"

#include <fcntl.h>
#include <linux/kcmp.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <algorithm>
#include <cerrno>

#include "base/error.h"
#include "base/procfs.h"
#include "uffd/uffd.h"

namespace leap {
namespace {

// Every command may give as many events as it has pages (kEvicted, each page with a status of its own), and a harvest
// needs room besides.
constexpr size_t kHarvestRoom = 4096;
constexpr size_t kEventRecords = static_cast<size_t>(kMaxCommands) * kBatchPages + kHarvestRoom;

bool sharesSpace(pid_t one, pid_t other) { return syscall(SYS_kcmp, one, other, KCMP_VM, 0, 0) == 0; }

}  // namespace

Engine::Engine(const EngineOptions& options)
    : options_(options),
      frames_(options.frames, options.seed),
      swap_(options.swap, frames_.at(0), options.frames),
      commands_(new int32_t[kMaxCommands * kCommandWords]),
      events_(kEventRecords) {
  pending_.reserve(kHarvestRoom);
  removed_.reserve(kHarvestRoom);
  try {
    if (options_.rdma) openFabric();
    wakeFd_ = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (wakeFd_ < 0) throw Error(ErrorKind::kMemory, "no event descriptor", errno);
  } catch (...) {
    swap_.undo();
    throw;
  }
  prctl(PR_SET_TIMERSLACK, 1000ul);  // waits of some 10 us are meant so; the kernel's default adds 50
  poller_.add(wakeFd_, kWakeTag);
  poller_.add(swap_.pollFd(), kSwapTag);
}

Engine::~Engine() {
  abandon();
  close(wakeFd_);
}

void Engine::openFabric() {
  if (fabric_) return;
  auto fabric = std::make_unique<Fabric>(FabricOptions{});
  fabric->setArena(frames_.at(0), static_cast<size_t>(frames_.count()) * kPageSize);
  auto remote = std::make_unique<Remote>(*fabric, frames_);
  poller_.add(fabric->fd(), kFabricTag);
  fabric_ = std::move(fabric);
  remote_ = std::move(remote);
}

void Engine::attach(pid_t pid) {
  try {
    spaces_[0].attached = leap::attach(pid, options_.attach);
  } catch (const Error& error) {
    if (!awaitStragglers()) throw;
    throw Error(error.kind,
                std::string(error.what()) + "; it was frozen during the attach and will be lost when it is thawed",
                error.code);
  }
  spaces_[0].used = true;
  spacesEnd_ = 1;
  poller_.add(spaces_[0].attached.uffd, messageTag(0));
  poller_.add(spaces_[0].attached.pidfd, exitTag(0));
}

void Engine::detach() {
  for (uint32_t i = spacesEnd_; i-- > 0;) {
    if (!spaces_[i].used) continue;
    unwatch(i);
    leap::detach(spaces_[i].attached);
    spaces_[i] = Space{};
  }
  spacesEnd_ = 0;
}

void Engine::abandon() {
  for (uint32_t i = 0; i < spacesEnd_; i++) drop(i);
  spacesEnd_ = 0;
  awaitStragglers();
  for (int fd : orphans_) close(fd);
  orphans_.clear();
}

void Engine::drop(uint32_t space) {
  if (!known(space)) return;
  unwatch(space);
  leap::abandon(spaces_[space].attached);
  spaces_[space] = Space{};
  ranges_.drop(space);
  pending_.erase(std::remove_if(pending_.begin(), pending_.end(),
                                [space](const Message& message) { return message.space == space; }),
                 pending_.end());
  while (spacesEnd_ > 0 && !spaces_[spacesEnd_ - 1].used) spacesEnd_--;
}

void Engine::adopt(uint32_t space, pid_t pid) {
  if (!known(space) || space == 0) throw Error(ErrorKind::kGone, "no such forked child", ESRCH);
  const Space& parent = spaces_[spaces_[space].parent];
  if (!parent.used) throw Error(ErrorKind::kGone, "the process that forked it is gone", ESRCH);
  spaces_[space].attached = leap::adopt(pid, spaces_[space].attached.uffd, parent.attached, options_.attach);
  poller_.add(spaces_[space].attached.pidfd, exitTag(space));
}

void Engine::unwatch(uint32_t space) {
  poller_.remove(spaces_[space].attached.uffd);
  poller_.remove(spaces_[space].attached.pidfd);
}

int Engine::registerRange(uint32_t space, uint64_t start, uint64_t count) {
  return known(space) ? uffd::registerRange(spaces_[space].attached.uffd, start * kPageSize, count * kPageSize) : ESRCH;
}

int Engine::unregisterRange(uint32_t space, uint64_t start, uint64_t count) {
  return known(space) ? uffd::unregisterRange(spaces_[space].attached.uffd, start * kPageSize, count * kPageSize)
                      : ESRCH;
}

int Engine::protectRange(uint32_t space, uint64_t start, uint64_t count) {
  if (!known(space)) return ESRCH;
  return spaces_[space].changing ? EAGAIN
                                 : uffd::protect(spaces_[space].attached.uffd, start * kPageSize, count * kPageSize);
}

void Engine::bind(uint32_t space, uint64_t start, uint64_t count, uint32_t first) {
  if (known(space)) ranges_.bind(space, start, count, first);
}

void Engine::unbind(uint32_t space, uint64_t start, uint64_t count) {
  ranges_.unbind(space, start, count);
  if (known(space)) uffd::wake(spaces_[space].attached.uffd, start * kPageSize, count * kPageSize);
}

// One word a page; 0 absent, 1 present, 2 swapped (Residency in src/core/engine.ts).
int Engine::residency(uint32_t space, uint64_t start, uint64_t count, uint8_t* out) {
  constexpr uint64_t kChunk = 512;
  if (!known(space) || spaces_[space].attached.pid <= 0) return ESRCH;
  std::string path = "/proc/" + std::to_string(viewOf(space)) + "/pagemap";
  int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return errno == ENOENT ? ESRCH : errno;
  uint64_t entries[kChunk];
  int error = 0;
  for (uint64_t at = 0; at < count && error == 0;) {
    uint64_t want = std::min(kChunk, count - at);
    ssize_t got = pread(fd, entries, want * sizeof *entries, static_cast<off_t>((start + at) * sizeof *entries));
    if (got <= 0) error = got < 0 ? errno : ESRCH;  // nothing to read: the address space is gone
    for (uint64_t i = 0; error == 0 && i < static_cast<uint64_t>(got) / sizeof *entries; i++) {
      out[at + i] = entries[i] >> 63 & 1 ? 1 : entries[i] >> 62 & 1 ? 2 : 0;
    }
    if (error == 0) at += static_cast<uint64_t>(got) / sizeof *entries;
  }
  close(fd);
  return error;
}

bool Engine::isAlive(uint32_t space) {
  if (!known(space) || spaces_[space].gone) return false;
  const Attached& attached = spaces_[space].attached;
  if (uffd::probe(attached.uffd) == ESRCH) return false;
  if (attached.pidfd < 0) return true;
  pollfd exit{attached.pidfd, POLLIN, 0};
  if (poll(&exit, 1, 0) == 1) return false;
  // The helper keeps the address space alive after exec, so a process that is alive in another one has called it.
  if (!attached.helper) return true;
  if (sharesSpace(attached.pid, attached.helper->pid())) return true;
  // A first thread that has left, the others going on, has no address space any more: it says nothing of theirs.
  const std::vector<pid_t> threads = proc::threads(attached.pid);
  return std::any_of(threads.begin(), threads.end(),
                     [&](pid_t tid) { return sharesSpace(tid, attached.helper->pid()); });
}

void Engine::placeHelpers(int cpu) {
  for (uint32_t i = 0; i < spacesEnd_; i++) {
    if (canEvict(i)) spaces_[i].attached.helper->bindTo(cpu);
  }
}

uint32_t Engine::turn(uint32_t commandWords, int64_t waitNs) {
  counters_.turns++;
  events_.clear();
  quiet_ = true;
  if (commandWords > 0) {
    execute(std::min(commandWords / kCommandWords, kMaxCommands));
    clockNs_[1] = static_cast<double>(nowNs());
  }
  removed_.clear();
  handOver();
  // Copies that went well are no reason not to wait: the pager has nothing to decide on them that the next fault would
  // not find in time.
  const bool transfersHere = !swap_.usesRing() && !swap_.idle();  // carried out by the harvest itself
  harvest(waitNs > 0 && quiet_ && !transfersHere, waitNs);
  return events_.usedWords();
}

}  // namespace leap
