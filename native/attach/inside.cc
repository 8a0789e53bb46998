// The steps of an attach that are system calls of the target's.
#include "attach/inside.h"

#include <fcntl.h>
#include <linux/kcmp.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/procfs.h"

namespace leap {

int failAtStep = 0;
int stepsPassed = 0;
void (*atStep)(int step) = nullptr;

namespace {

constexpr uint64_t kAreaBytes =
    kPageSize + Area::kRequestBytes + kPageSize + Area::kArenaBytes + kPageSize;  // guard, requests, code, arena, guard
constexpr size_t kCodeWords = 8;  // the words of 8 bytes that hold arch::kCode
constexpr uint64_t kTargetFdBelow = 1000;
constexpr uint64_t kTargetFdRoom = 16;

}  // namespace

void step(const char* name) {
  stepsPassed++;
  if (atStep) atStep(stepsPassed);
  if (failAtStep > 0 && --failAtStep == 0)
    throw Error(ErrorKind::kInjected, std::string("made to fail behind the step: ") + name);
}

void closeInside(Tracee& target, int fd) { target.call(SYS_close, static_cast<uint64_t>(fd)); }

Area mapArea(Tracee& target, Undo& undo) {
  const uint64_t size = kAreaBytes;
  const uint64_t start =
      target.need("map our pages", SYS_mmap, 0, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, ~0ull, 0);
  undo.push([&target, start, size] { target.call(SYS_munmap, start, size); });
  step("map");
  Area area;
  area.start = start;
  area.end = start + size;
  area.requests = start + kPageSize;
  area.code = area.requests + Area::kRequestBytes;
  area.arena = area.code + kPageSize;
  const auto open = [&target](uint64_t at, uint64_t bytes) {
    target.need("set up our pages", SYS_mprotect, at, bytes, PROT_READ | PROT_WRITE);
  };
  open(area.requests, Area::kRequestBytes);
  open(area.arena, Area::kArenaBytes);
  // Executable from the start: a process under PR_SET_MDWE (systemd's MemoryDenyWriteExecute) cannot make memory
  // executable later. ptrace writes to it all the same.
  target.need("map our code", SYS_mmap, area.code, kPageSize, PROT_READ | PROT_EXEC,
              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, ~0ull, 0);
  // After mlockall(MCL_FUTURE): a locked arena takes no pages of unlocked memory. It cannot fail on pages just mapped.
  target.call(SYS_munlock, start, size);
  target.need("set up our pages", SYS_madvise, start, size, MADV_DONTFORK);
  target.need("set up our pages", SYS_madvise, start, size, MADV_DONTDUMP);
  uint64_t words[kCodeWords] = {};
  std::memcpy(words, arch::kCode, arch::kCodeSize);
  target.poke(area.code, words, kCodeWords);
  step("protect");
  return area;
}

// Puts a descriptor of leapd's on its way through the socket `through`.
static void sendDescriptor(int through, int fd, pid_t receiver) {
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
  if (sendmsg(through, &message, MSG_NOSIGNAL) != 1)
    throw Error(ErrorKind::kFailed, "cannot send a descriptor to process " + std::to_string(receiver), errno);
}

// Receives one in the target. The message header and what it points to are put at `scratch`, in the target.
static int receiveDescriptor(Tracee& target, uint64_t scratch, int through) {
  struct {
    msghdr message;
    iovec one;
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))];
    char data;
  } there{};
  const auto at = [scratch, &there](const void* part) {
    return reinterpret_cast<void*>(
        scratch + static_cast<uint64_t>(static_cast<const char*>(part) - reinterpret_cast<const char*>(&there)));
  };
  there.one = {at(&there.data), 1};
  there.message.msg_iov = static_cast<iovec*>(at(&there.one));
  there.message.msg_iovlen = 1;
  there.message.msg_control = at(there.control);
  there.message.msg_controllen = sizeof there.control;
  target.write(scratch, &there, sizeof there);
  target.need("receive a descriptor", SYS_recvmsg, static_cast<uint64_t>(through), scratch,
              MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
  target.read(scratch, &there, sizeof there);
  const cmsghdr* received = reinterpret_cast<const cmsghdr*>(there.control);
  if (there.message.msg_controllen < CMSG_LEN(sizeof(int)) || received->cmsg_type != SCM_RIGHTS) {
    throw Error(ErrorKind::kLimit, "process " + std::to_string(target.pid()) +
                                       " has no free descriptor: raise its limit (prlimit --nofile)");
  }
  int number;
  std::copy_n(reinterpret_cast<const char*>(CMSG_DATA(received)), sizeof number, reinterpret_cast<char*>(&number));
  return number;
}

int passDescriptor(Tracee& target, const Area& area, int fd, Undo& undo) {
  target.need("make a socket pair", SYS_socketpair, AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, area.requests);
  int pair[2];
  target.read(area.requests, pair, sizeof pair);
  Undo sockets;  // closes them in any case
  sockets.push([&target, pair] {
    closeInside(target, pair[1]);
    closeInside(target, pair[0]);
  });
  step("socketpair");
  sendDescriptor(takeOut(target, pair[0]).get(), fd, target.pid());
  step("send");
  const int number = receiveDescriptor(target, area.requests, pair[1]);
  undo.push([&target, number] { closeInside(target, number); });
  step("receive");
  return number;
}

// /dev/userfaultfd creates one for a process without rights of its own that has the device open.
int makeUserfaultfd(Tracee& target, const Area& area, Undo& undo) {
  int number;
  if (const Descriptor device{open("/dev/userfaultfd", O_RDWR | O_CLOEXEC)}) {
    Undo received;
    const int there = passDescriptor(target, area, device.get(), received);
    number = static_cast<int>(target.need("make a userfaultfd", SYS_ioctl, static_cast<uint64_t>(there),
                                          USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK));
  } else {
    const long made = target.call(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
    // An unprivileged process could create one for faults in user mode only; its system calls on stored pages would
    // then fail with EFAULT.
    if (made < 0) {
      throw Error(ErrorKind::kNotPermitted,
                  "process " + std::to_string(target.pid()) +
                      " may not create a userfaultfd, and there is no /dev/userfaultfd (Linux 6.1) " +
                      "to give it: set vm.unprivileged_userfaultfd=1",
                  static_cast<int>(-made));
    }
    number = static_cast<int>(made);
  }
  undo.push([&target, number] { closeInside(target, number); });
  step("userfaultfd");
  return number;
}

int moveHigh(Tracee& target, int fd, Undo& undo) {
  const uint64_t top = std::min<uint64_t>(proc::descriptorLimit(target.pid()), kTargetFdBelow);
  long high =
      target.call(SYS_fcntl, static_cast<uint64_t>(fd), F_DUPFD_CLOEXEC, top > kTargetFdRoom ? top - kTargetFdRoom : 0);
  if (high < 0)
    high = static_cast<long>(
        target.need("duplicate a descriptor", SYS_fcntl, static_cast<uint64_t>(fd), F_DUPFD_CLOEXEC, 0));
  undo.push([&target, high] { closeInside(target, static_cast<int>(high)); });
  step("dup");
  return static_cast<int>(high);
}

// pidfd_getfd of a process whose first thread has exited finds nothing: then by the thread (Linux 6.9).
Descriptor takeOut(Tracee& target, int fd) {
  const int flags = target.tid() == target.pid() ? 0 : O_EXCL;  // PIDFD_THREAD
  Descriptor holder(static_cast<int>(syscall(SYS_pidfd_open, target.tid(), flags)));
  if (!holder) holder = Descriptor(static_cast<int>(syscall(SYS_pidfd_open, target.pid(), 0)));
  Descriptor taken(static_cast<int>(syscall(SYS_pidfd_getfd, holder.get(), fd, 0)));
  if (!taken)
    throw Error(ErrorKind::kNotPermitted,
                "may not copy a descriptor from process " + std::to_string(target.pid()) + ": run as root", errno);
  return taken;
}

bool sameFile(const Tracee& target, int fd, int ours) {
  return syscall(SYS_kcmp, getpid(), target.tid(), KCMP_FILE, ours, fd) == 0;
}

bool areaIsThere(Tracee& target, const Area& area) {
  uint8_t code[kCodeWords * sizeof(uint64_t)] = {};
  static_assert(arch::kCodeSize <= sizeof code, "the code fits");
  try {
    target.read(area.code, code, arch::kCodeSize);
  } catch (const Error&) { return false; }
  return std::equal(code, code + arch::kCodeSize, arch::kCode);
}

void releaseArena(int uffd, const Area& area) {
  uffdio_range range{area.arena, Area::kArenaBytes};
  ioctl(uffd, UFFDIO_UNREGISTER, &range);
}

}  // namespace leap
