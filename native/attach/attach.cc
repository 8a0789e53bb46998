#include "attach/attach.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cerrno>

#include "attach/inside.h"
#include "base/procfs.h"
#include "base/undo.h"
#include "target/target_check.h"
#include "target/tracee.h"

namespace leap {
namespace {

constexpr int kReapTries = 100;
constexpr int kLeaveMilliseconds = 200;  // our caller tries again, and each time reads what has been raised meanwhile
constexpr int kAdoptMilliseconds =
    50;  // a forked child may be waiting in the kernel for a page that only our caller can bring
constexpr int kThawMilliseconds = 30000;
constexpr int kFrozenMilliseconds = 1000;  // of a forked child: the rest of its family is not served meanwhile

// The helper is dead and collected by us; its parent has to wait for it too, or it stays a zombie.
void reap(Tracee& target, pid_t inside) {
  for (int i = 0; i < kReapTries; i++) {
    if (target.call(SYS_wait4, static_cast<uint64_t>(inside), 0, WNOHANG | __WALL, 0) != 0) return;
    usleep(100);
  }
}

// Everything from the userfaultfd on, which attach and adopt have in common.
void finishAttach(Tracee& target, const Area& area, Undo& undo, const AttachOptions& options, Attached& attached) {
  const Tracee::Child child = target.clone(area.code + arch::kCallOffset, area.code);
  undo.push([&target, child] { reap(target, child.inside); });
  attached.area = area;
  attached.helperInside = child.inside;
  attached.helper =
      std::make_unique<Helper>(Helper::Parts{child.pid, child.inside, attached.uffd, attached.targetFd, area});
  undo.push([&attached] { attached.helper.reset(); });
  step("clone");
  attached.helper->setUp(options.allowMove && attached.features & UFFD_FEATURE_MOVE, options.allowVector);
  step("helper");
}

// Helpers that an exec has left behind; checkTarget has made sure that none is the mark of stored pages.
void reapLeftovers(Tracee& target) {
  for (const pid_t child : proc::children(target.pid())) {
    if (const pid_t inside = deadHelper(child)) reap(target, inside);
  }
}

bool hasExited(int pidfd) {
  pollfd wait{pidfd, POLLIN, 0};
  return poll(&wait, 1, 0) > 0;
}

}  // namespace

uint64_t probeFeatures() {
  Descriptor probe;
  if (const Descriptor device{open("/dev/userfaultfd", O_RDWR | O_CLOEXEC)}) {
    probe = Descriptor(ioctl(device.get(), USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK));
  } else {
    probe = Descriptor(static_cast<int>(syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK)));
  }
  if (!probe) {
    const ErrorKind kind = errno == ENOSYS ? ErrorKind::kKernelTooOld : ErrorKind::kNotPermitted;
    throw Error(kind, "no userfaultfd: run as root, on Linux 5.11 or newer with CONFIG_USERFAULTFD", errno);
  }
  uffdio_api api{UFFD_API, 0, 0};
  if (ioctl(probe.get(), UFFDIO_API, &api))
    throw Error(ErrorKind::kKernelTooOld, "this kernel's userfaultfd has another interface", errno);
  if ((api.features & kNeededFeatures) != kNeededFeatures) {
    throw Error(ErrorKind::kKernelTooOld,
                "this kernel's userfaultfd lacks write protection or events: Linux 5.11 or newer is needed");
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
  if (!pidfd) throw Error(ErrorKind::kNoProcess, "process " + std::to_string(pid) + " has ended", errno);
  Descriptor uffd;
  Undo undo;
  step("stop");
  reapLeftovers(target);
  const Area area = mapArea(target, undo);
  {
    Undo low;  // its first number, given up for the high one
    const int made = makeUserfaultfd(target, area, low);
    attached.targetFd = moveHigh(target, made, undo);
  }
  uffd = takeOut(target, attached.targetFd);
  step("getfd");
  uffdio_api api{UFFD_API, features, 0};
  if (ioctl(uffd.get(), UFFDIO_API, &api)) {
    throw Error(errno == EPERM ? ErrorKind::kNotPermitted : ErrorKind::kKernelTooOld,
                "userfaultfd refuses the features needed (CAP_SYS_PTRACE for fork events)", errno);
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
  Tracee target(pid, {kAdoptMilliseconds, kFrozenMilliseconds, kFrozenMilliseconds});
  Attached attached;
  Descriptor pidfd(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
  if (!pidfd) throw Error(ErrorKind::kNoProcess, "process " + std::to_string(pid) + " has ended", errno);
  Undo undo;
  step("stop");
  const Area area = mapArea(target, undo);
  {
    Undo low;
    const int made = passDescriptor(target, area, uffd, low);
    // The child came to the world with its parent's descriptor: its own takes that place.
    if (sameFile(target, parent.targetFd, parent.uffd)) {
      attached.targetFd = static_cast<int>(target.need("replace a descriptor", SYS_dup3, static_cast<uint64_t>(made),
                                                       static_cast<uint64_t>(parent.targetFd), O_CLOEXEC));
      undo.push([&target, &attached] { closeInside(target, attached.targetFd); });
    } else {
      attached.targetFd = moveHigh(target, made, undo);
    }
  }
  attached.pid = pid;
  attached.uffd = uffd;
  attached.features = parent.features;
  if (fcntl(uffd, F_SETFL, O_NONBLOCK))
    throw Error(ErrorKind::kFailed, "cannot use the userfaultfd of process " + std::to_string(pid), errno);
  finishAttach(target, area, undo, options, attached);
  attached.pidfd = pidfd.take();
  undo.keep();
  return attached;
}

// No range is registered any more, so what a message says is of no interest; but the thread that raised it waits,
// uninterruptibly, until it is read.
static void drain(int uffd) {
  uffd_msg messages[16];
  ssize_t got;
  while ((got = ::read(uffd, messages, sizeof messages)) > 0) {
    for (size_t i = 0; i < static_cast<size_t>(got) / sizeof messages[0]; i++) {
      if (messages[i].event == UFFD_EVENT_FORK) close(static_cast<int>(messages[i].arg.fork.ufd));
    }
  }
}

void detach(Attached& attached) {
  try {
    if (attached.pidfd < 0 || hasExited(attached.pidfd)) return abandon(attached);
    drain(attached.uffd);
    checkThawed(attached.pid);
    Tracee target(attached.pid, {kLeaveMilliseconds, Tracee::kPatience, 0});
    if (atStep) atStep(0);
    attached.helper.reset();
    reap(target, std::exchange(attached.helperInside, -1));
    if (areaIsThere(target, attached.area)) {
      if (sameFile(target, attached.targetFd, attached.uffd)) closeInside(target, attached.targetFd);
      releaseArena(attached.uffd, attached.area);
      target.call(SYS_munmap, attached.area.start, attached.area.end - attached.area.start);
    }
  } catch (const Error& error) {
    if (error.kind != ErrorKind::kNoProcess) throw;
  }
  abandon(attached);
}

// After an exec the dead helper is a child that the new program does not know of, and that no later attach could tell
// from the helper of a leapd that died. Where leapd's pages are still there it stays, as the mark of exactly that.
static void reapAfterExec(const Attached& attached) noexcept {
  if (attached.helperInside <= 0 || attached.pidfd < 0 || hasExited(attached.pidfd)) return;
  if (hasArea(attached.pid)) return;
  try {
    Tracee target(attached.pid, {kLeaveMilliseconds, kLeaveMilliseconds, kLeaveMilliseconds});
    if (!areaIsThere(target, attached.area)) reap(target, attached.helperInside);
  } catch (const Error&) {
    // It has ended, or cannot be stopped now: the next attach reaps the helper (reapLeftovers).
  }
}

void abandon(Attached& attached) noexcept {
  attached.helper.reset();
  reapAfterExec(attached);
  for (int* fd : {&attached.uffd, &attached.pidfd}) {
    if (*fd >= 0) close(*fd);
    *fd = -1;
  }
  attached.targetFd = attached.helperInside = -1;
}

bool releaseStragglers() noexcept { return Tracee::releaseStragglers(); }

bool awaitStragglers() noexcept { return Tracee::awaitStragglers(kThawMilliseconds); }

}  // namespace leap
