#include "attach.h"

#include <fcntl.h>
#include <linux/kcmp.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <algorithm>
#include <cerrno>
#include <functional>
#include <utility>
#include <vector>

#include "procfs.h"
#include "target_check.h"
#include "tracee.h"

namespace leap {

int failAtStep = 0;
int stepsPassed = 0;

namespace {

constexpr uint64_t kRequestPages = 2;
constexpr uint64_t kAreaPages = 1 + kRequestPages + 1 + kBatchPages + 1;  // guard, requests, code, arena, guard
constexpr uint64_t kTargetFdBelow = 1000;
constexpr uint64_t kTargetFdRoom = 16;
constexpr int kReapTries = 100;
constexpr int kAdoptMilliseconds = 200;  // a forked child may be waiting in the kernel for a page that only our caller can bring

// What has been done so far, to be undone in reverse unless all goes well.
class Undo {
 public:
  ~Undo() {
    while (!actions_.empty()) {
      try {
        actions_.back()();
      } catch (const Error&) {
        // The target died: what this would have undone is gone with it.
      }
      actions_.pop_back();
    }
  }
  void push(std::function<void()> action) { actions_.push_back(std::move(action)); }
  void keep() { actions_.clear(); }

 private:
  std::vector<std::function<void()>> actions_;
};

class Descriptor {
 public:
  explicit Descriptor(int fd = -1) : fd_(fd) {}
  Descriptor(Descriptor&& other) noexcept : fd_(other.take()) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~Descriptor() {
    if (fd_ >= 0) close(fd_);
  }
  int get() const { return fd_; }
  int take() { return std::exchange(fd_, -1); }
  explicit operator bool() const { return fd_ >= 0; }

 private:
  int fd_;
};

// Behind every step of a bracket: tests make the n-th one fail.
void step(const char* name) {
  stepsPassed++;
  if (failAtStep > 0 && --failAtStep == 0) throw Error("injected", std::string("made to fail behind the step: ") + name);
}

Descriptor openDevice() { return Descriptor(open("/dev/userfaultfd", O_RDWR | O_CLOEXEC)); }

Descriptor userfaultfdOfOurs() {
  if (const Descriptor device = openDevice()) return Descriptor(ioctl(device.get(), USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK));
  return Descriptor(static_cast<int>(syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK)));
}

// pidfd_getfd of a process whose first thread has exited finds nothing: then by the thread (Linux 6.9).
Descriptor pidfdForDescriptors(const Tracee& target) {
  const int fd = static_cast<int>(syscall(SYS_pidfd_open, target.tid(), target.tid() == target.pid() ? 0 : O_EXCL /* PIDFD_THREAD */));
  return Descriptor(fd >= 0 ? fd : static_cast<int>(syscall(SYS_pidfd_open, target.pid(), 0)));
}

bool sameFile(pid_t pid, int fd, int ours) { return syscall(SYS_kcmp, getpid(), pid, KCMP_FILE, ours, fd) == 0; }

void closeInside(Tracee& target, int fd) { target.call(SYS_close, static_cast<uint64_t>(fd)); }

// Our pages in the target. Between the writable parts lie others, so that the kernel never joins or splits them as the arena comes and goes.
Helper::Area mapArea(Tracee& target, Undo& undo) {
  const uint64_t size = kAreaPages * kPageSize;
  const uint64_t start = target.need("map our pages", SYS_mmap, 0, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, ~0ull, 0);
  undo.push([&target, start, size] { target.call(SYS_munmap, start, size); });
  step("map");
  Helper::Area area;
  area.start = start;
  area.end = start + size;
  area.requests = start + kPageSize;
  area.code = area.requests + kRequestPages * kPageSize;
  area.arena = area.code + kPageSize;
  const uint64_t writable = (kRequestPages + 1 + kBatchPages) * kPageSize;
  target.need("set up our pages", SYS_mprotect, area.requests, writable, PROT_READ | PROT_WRITE);
  target.call(SYS_munlock, start, size);  // after mlockall(MCL_FUTURE): a locked arena takes no pages of unlocked memory
  target.need("set up our pages", SYS_madvise, start, size, MADV_DONTFORK);
  target.need("set up our pages", SYS_madvise, start, size, MADV_DONTDUMP);
  target.write(area.code, arch::kCode, arch::kCodeSize);
  target.need("make our code executable", SYS_mprotect, area.code, kPageSize, PROT_READ | PROT_EXEC);
  step("protect");
  return area;
}

// Hands a descriptor of ours to the target, over a socket pair that the target makes. Returns its number there.
int passDescriptor(Tracee& target, const Helper::Area& area, int fd, int pidfd, Undo& undo) {
  const uint64_t scratch = area.requests;
  target.need("make a socket pair", SYS_socketpair, AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, scratch);
  int pair[2];
  target.read(scratch, pair, sizeof pair);
  Undo sockets;  // closed again in any case
  sockets.push([&target, pair] {
    closeInside(target, pair[1]);
    closeInside(target, pair[0]);
  });
  step("socketpair");
  const Descriptor mine(static_cast<int>(syscall(SYS_pidfd_getfd, pidfd, pair[0], 0)));
  if (!mine) throw Error("not-permitted", "may not take a descriptor out of process " + std::to_string(target.pid()) + ": run as root", errno);

  char data = 0;
  iovec one{&data, 1};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof fd)] = {};
  msghdr message{};
  message.msg_iov = &one;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  cmsghdr* header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof fd);
  std::copy_n(reinterpret_cast<const char*>(&fd), sizeof fd, reinterpret_cast<char*>(CMSG_DATA(header)));
  if (sendmsg(mine.get(), &message, MSG_NOSIGNAL) != 1) throw Error("failed", "cannot send a descriptor to process " + std::to_string(target.pid()), errno);
  step("send");

  // The same message header, with addresses of the target's.
  struct {
    msghdr message;
    iovec one;
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof fd)];
    char data;
  } there{};
  const auto at = [scratch, &there](const void* part) {
    return reinterpret_cast<void*>(scratch + static_cast<uint64_t>(static_cast<const char*>(part) - reinterpret_cast<const char*>(&there)));
  };
  there.one = {at(&there.data), 1};
  there.message.msg_iov = static_cast<iovec*>(at(&there.one));
  there.message.msg_iovlen = 1;
  there.message.msg_control = at(there.control);
  there.message.msg_controllen = sizeof there.control;
  target.write(scratch, &there, sizeof there);
  target.need("receive a descriptor", SYS_recvmsg, static_cast<uint64_t>(pair[1]), scratch, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
  target.read(scratch, &there, sizeof there);
  const cmsghdr* received = reinterpret_cast<const cmsghdr*>(there.control);
  if (there.message.msg_controllen < CMSG_LEN(sizeof fd) || received->cmsg_type != SCM_RIGHTS) {
    throw Error("limit", "process " + std::to_string(target.pid()) + " has no free descriptor: raise its limit (prlimit --nofile)");
  }
  int number;
  std::copy_n(reinterpret_cast<const char*>(CMSG_DATA(received)), sizeof number, reinterpret_cast<char*>(&number));
  undo.push([&target, number] { closeInside(target, number); });
  step("receive");
  return number;
}

// A userfaultfd for the target's memory, made in the target: its number there. The device gives one to whoever has it open, with no right of its own.
int makeUserfaultfd(Tracee& target, const Helper::Area& area, int pidfd, Undo& undo) {
  int number;
  if (const Descriptor device = openDevice()) {
    Undo received;
    const int there = passDescriptor(target, area, device.get(), pidfd, received);
    number = static_cast<int>(target.need("make a userfaultfd", SYS_ioctl, static_cast<uint64_t>(there), USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK));
  } else {
    const long made = target.call(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
    // One for user mode only could be had; system calls into stored pages would then fail. So not.
    if (made < 0) {
      throw Error("not-permitted", "process " + std::to_string(target.pid()) + " may not make a userfaultfd, and there is no /dev/userfaultfd to give it: " +
                                       "load it (Linux 6.1), or set vm.unprivileged_userfaultfd=1", static_cast<int>(-made));
    }
    number = static_cast<int>(made);
  }
  undo.push([&target, number] { closeInside(target, number); });
  step("userfaultfd");
  return number;
}

// To a high number, so that the numbers of the target's own next descriptors stay what they would have been.
int moveHigh(Tracee& target, int fd, Undo& undo) {
  const uint64_t top = std::min<uint64_t>(proc::descriptorLimit(target.pid()), kTargetFdBelow);
  long high = target.call(SYS_fcntl, static_cast<uint64_t>(fd), F_DUPFD_CLOEXEC, top > kTargetFdRoom ? top - kTargetFdRoom : 0);
  if (high < 0) high = static_cast<long>(target.need("duplicate a descriptor", SYS_fcntl, static_cast<uint64_t>(fd), F_DUPFD_CLOEXEC, 0));
  undo.push([&target, high] { closeInside(target, static_cast<int>(high)); });
  step("dup");
  return static_cast<int>(high);
}

void registerArena(int uffd, const Helper::Area& area) {
  uffdio_register request{{area.arena, kBatchPages * static_cast<uint64_t>(kPageSize)}, UFFDIO_REGISTER_MODE_MISSING, 0};
  if (ioctl(uffd, UFFDIO_REGISTER, &request)) throw Error("failed", "cannot register our pages with userfaultfd", errno);
}

// Before our pages are unmapped, or that would raise an event and wait for us to read it.
void unregisterArena(int uffd, const Helper::Area& area) {
  uffdio_range range{area.arena, kBatchPages * static_cast<uint64_t>(kPageSize)};
  ioctl(uffd, UFFDIO_UNREGISTER, &range);
}

// The helper is dead and collected by us; its parent has to wait for it too, or it stays a zombie.
void reap(Tracee& target, pid_t inside) {
  for (int i = 0; i < kReapTries; i++) {
    if (target.call(SYS_wait4, static_cast<uint64_t>(inside), 0, WNOHANG | __WALL, 0) != 0) return;
    usleep(100);
  }
}

// Everything from the userfaultfd on, which attach and adopt have in common.
void finishAttach(Tracee& target, const Helper::Area& area, Undo& undo, const AttachOptions& options, Attached& attached) {
  registerArena(attached.uffd, area);
  undo.push([&attached, area] { unregisterArena(attached.uffd, area); });
  step("arena");
  const Tracee::Child child = target.clone(area.code + arch::kCallOffset, area.code);
  undo.push([&target, child] { reap(target, child.inside); });
  attached.area = area;
  attached.helperInside = child.inside;
  attached.helper = std::make_unique<Helper>(Helper::Parts{child.pid, child.inside, attached.uffd, attached.targetFd, area});
  undo.push([&attached] { attached.helper.reset(); });
  step("clone");
  attached.helper->setUp(options.allowMove && attached.features & UFFD_FEATURE_MOVE, options.allowVector, target.filtered());
  step("helper");
}

bool hasExited(int pidfd) {
  pollfd wait{pidfd, POLLIN, 0};
  return poll(&wait, 1, 0) > 0;
}

// After exec other memory stands where ours was.
bool areaIsThere(Tracee& target, const Helper::Area& area) {
  uint8_t code[64] = {};
  static_assert(sizeof code >= 60, "the code fits");
  try {
    target.read(area.code, code, arch::kCodeSize);
  } catch (const Error&) {
    return false;
  }
  return std::equal(code, code + arch::kCodeSize, arch::kCode);
}

}  // namespace

uint64_t probeFeatures() {
  const Descriptor probe = userfaultfdOfOurs();
  if (!probe) {
    throw Error(errno == ENOSYS ? "kernel-too-old" : "not-permitted", "no userfaultfd: run as root, on Linux 5.11 or newer with CONFIG_USERFAULTFD", errno);
  }
  uffdio_api api{UFFD_API, 0, 0};
  if (ioctl(probe.get(), UFFDIO_API, &api)) throw Error("kernel-too-old", "this kernel's userfaultfd has another interface", errno);
  if ((api.features & kNeededFeatures) != kNeededFeatures) {
    throw Error("kernel-too-old", "this kernel's userfaultfd lacks write protection or events: Linux 5.11 or newer is needed");
  }
  return api.features;
}

Attached attach(pid_t pid, const AttachOptions& options) {
  checkTarget(pid);
  const uint64_t features = kNeededFeatures | (probeFeatures() & kWantedFeatures);
  stepsPassed = 0;

  Tracee target(pid);
  Attached attached;
  Descriptor pidfd(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
  if (!pidfd) throw Error("no-process", "process " + std::to_string(pid) + " has ended", errno);
  const Descriptor files = pidfdForDescriptors(target);
  Descriptor uffd;
  Undo undo;
  step("stop");
  const Helper::Area area = mapArea(target, undo);
  {
    Undo low;  // its first number, given up for the high one
    const int made = makeUserfaultfd(target, area, files.get(), low);
    attached.targetFd = moveHigh(target, made, undo);
  }
  uffd = Descriptor(static_cast<int>(syscall(SYS_pidfd_getfd, files.get(), attached.targetFd, 0)));
  if (!uffd) throw Error("not-permitted", "may not take the userfaultfd out of process " + std::to_string(pid) + ": run as root", errno);
  step("getfd");
  uffdio_api api{UFFD_API, features, 0};
  if (ioctl(uffd.get(), UFFDIO_API, &api)) {
    throw Error(errno == EPERM ? "not-permitted" : "kernel-too-old", "userfaultfd refuses the features needed (CAP_SYS_PTRACE for fork events)", errno);
  }
  step("api");
  attached.pid = pid;
  attached.uffd = uffd.get();
  attached.features = features;
  finishAttach(target, area, undo, options, attached);
  attached.pidfd = pidfd.take();
  uffd.take();
  undo.keep();
  return attached;
}

Attached adopt(pid_t pid, int uffd, const Attached& parent, const AttachOptions& options) {
  checkTarget(pid);
  stepsPassed = 0;
  Tracee target(pid, kAdoptMilliseconds);
  Attached attached;
  Descriptor pidfd(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
  if (!pidfd) throw Error("no-process", "process " + std::to_string(pid) + " has ended", errno);
  const Descriptor files = pidfdForDescriptors(target);
  Undo undo;
  step("stop");
  const Helper::Area area = mapArea(target, undo);
  {
    Undo low;
    const int made = passDescriptor(target, area, uffd, files.get(), low);
    // The child came to the world with its parent's descriptor: its own takes that place.
    if (sameFile(target.tid(), parent.targetFd, parent.uffd)) {
      attached.targetFd = static_cast<int>(
          target.need("replace a descriptor", SYS_dup3, static_cast<uint64_t>(made), static_cast<uint64_t>(parent.targetFd), O_CLOEXEC));
      undo.push([&target, &attached] { closeInside(target, attached.targetFd); });
    } else {
      attached.targetFd = moveHigh(target, made, undo);
    }
  }
  attached.pid = pid;
  attached.uffd = uffd;
  attached.features = parent.features;
  if (fcntl(uffd, F_SETFL, O_NONBLOCK)) throw Error("failed", "cannot use the userfaultfd of process " + std::to_string(pid), errno);
  finishAttach(target, area, undo, options, attached);
  attached.pidfd = pidfd.take();
  undo.keep();
  return attached;
}

void detach(Attached& attached) {
  try {
    if (attached.pidfd < 0 || hasExited(attached.pidfd)) return abandon(attached);
    Tracee target(attached.pid);
    attached.helper.reset();
    reap(target, attached.helperInside);
    if (areaIsThere(target, attached.area)) {
      if (sameFile(target.tid(), attached.targetFd, attached.uffd)) closeInside(target, attached.targetFd);
      unregisterArena(attached.uffd, attached.area);
      target.call(SYS_munmap, attached.area.start, attached.area.end - attached.area.start);
    }
  } catch (const Error& error) {
    if (error.kind != "no-process") throw;
  }
  abandon(attached);
}

void abandon(Attached& attached) noexcept {
  attached.helper.reset();
  for (int* fd : {&attached.uffd, &attached.pidfd}) {
    if (*fd >= 0) close(*fd);
    *fd = -1;
  }
  attached.targetFd = attached.helperInside = -1;
}

void releaseStragglers() noexcept { Tracee::releaseStragglers(); }

}  // namespace leap
