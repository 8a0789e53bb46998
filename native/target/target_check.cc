#include "target/target_check.h"

#include <elf.h>
#include <fcntl.h>
#include <unistd.h>
#include <cstdlib>
#include <string>

#include "base/error.h"
#include "base/procfs.h"
#include "target/cgroup.h"

namespace leap {
namespace {

constexpr unsigned long kKernelThread = 0x00200000;  // PF_KTHREAD, in field 9 of /proc/PID/stat

unsigned long processFlags(const std::string& stat) {
  size_t at = stat.rfind(')');
  for (int field = 2; field < 9 && at != std::string::npos; field++) at = stat.find(' ', at + 1);
  return at == std::string::npos ? 0 : std::strtoul(stat.c_str() + at, nullptr, 10);
}

bool is32Bit(pid_t pid) {
  const int fd = open(proc::path(pid, "exe").c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return false;  // not readable for us: the code segment of the stopped thread will tell
  unsigned char ident[EI_NIDENT] = {};
  const bool read = ::read(fd, ident, sizeof ident) == static_cast<ssize_t>(sizeof ident);
  close(fd);
  return read && ident[EI_CLASS] == ELFCLASS32;
}

void checkHelpers(pid_t pid, const std::string& name) {
  for (const pid_t child : proc::children(pid)) {
    std::string status;
    if (!proc::readAll(proc::path(child, "status"), &status) || proc::statusField(status, "Name") != kHelperName)
      continue;
    if (proc::statusField(status, "State")[0] != 'Z') {
      const std::string tracer = proc::statusField(status, "TracerPid");
      throw Error(ErrorKind::kAlreadyManaged,
                  name + " is under leapd already (process " + tracer + "): use that one, or detach it");
    }
    throw Error(ErrorKind::kOrphaned,
                name + " was under a leapd that died: threads that touch a stored page wait for ever. " +
                    "End the process, or start it again");
  }
}

}  // namespace

void checkThawed(pid_t pid) {
  if (!cgroup::frozen(pid)) return;
  throw Error(ErrorKind::kFrozen, "process " + std::to_string(pid) +
                                      " is frozen by its control group (a paused container?): thaw it first");
}

void checkTarget(pid_t pid) {
  const std::string name = "process " + std::to_string(pid);
  std::string status, stat;
  if (pid <= 0 || !proc::readAll(proc::path(pid, "status"), &status) ||
      !proc::readAll(proc::path(pid, "stat"), &stat)) {
    throw Error(ErrorKind::kNoProcess, "there is no " + name + ": give the number of a running process");
  }
  const std::string group = proc::statusField(status, "Tgid");
  if (group != std::to_string(pid))
    throw Error(ErrorKind::kNoProcess, name + " is a thread of process " + group + ": give that number");
  if (pid == getpid()) throw Error(ErrorKind::kSelf, name + " is leapd itself: give the number of another process");
  if (processFlags(stat) & kKernelThread)
    throw Error(ErrorKind::kKernelThread, name + " is a kernel thread and has no memory of its own to page");
  if (proc::statusField(status, "Name") == kHelperName && proc::statusField(status, "TracerPid") != "0") {
    throw Error(ErrorKind::kHelper, name + " is leapd's own helper in process " + proc::statusField(status, "PPid") +
                                        ": that one is under leapd already");
  }
  bool alive = false;
  for (const pid_t tid : proc::threads(pid)) {
    const char state = proc::state(pid, tid);
    alive |= state != 0 && state != 'Z' && state != 'X';
  }
  if (!alive)
    throw Error(ErrorKind::kZombie,
                name + " has exited and waits for its parent to collect it: nothing is left to page");
  const std::string tracer = proc::statusField(status, "TracerPid");
  if (tracer != "0" && tracer != std::to_string(getpid())) {
    throw Error(ErrorKind::kTraced, name + " is traced by process " + tracer + " (a debugger?): detach that first");
  }
  checkThawed(pid);
  if (is32Bit(pid)) throw Error(ErrorKind::k32Bit, name + " is a 32-bit program; only 64-bit ones can be paged");
  checkHelpers(pid, name);
}

}  // namespace leap
