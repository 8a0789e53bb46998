#include "target/target_check.h"

#include <elf.h>
#include <fcntl.h>
#include <sys/uio.h>
#include <unistd.h>
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <initializer_list>
#include <sstream>
#include <string>

#include "base/error.h"
#include "base/layout.h"
#include "base/procfs.h"
#include "target/arch_x86_64.h"
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

// Whether one of these mappings of thread `tid` is leapd's code page: anonymous, executable, one page.
bool holdsCode(pid_t tid, const std::string& maps) {
  std::istringstream lines(maps);
  for (std::string line; std::getline(lines, line);) {
    unsigned long from, to, inode;
    char permissions[5];
    if (sscanf(line.c_str(), "%lx-%lx %4s %*x %*s %lu", &from, &to, permissions, &inode) != 4) continue;
    if (to - from != kPageSize || inode != 0 || std::strcmp(permissions, "r-xp") != 0) continue;
    uint8_t code[arch::kCodeSize];
    const iovec local{code, sizeof code}, remote{reinterpret_cast<void*>(from), sizeof code};
    if (process_vm_readv(tid, &local, 1, &remote, 1, 0) == static_cast<ssize_t>(sizeof code) &&
        std::equal(code, code + sizeof code, arch::kCode))
      return true;
  }
  return false;
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
    if (!hasArea(pid)) continue;  // from before an exec
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

bool hasArea(pid_t pid) {
  for (const pid_t tid : proc::threads(pid)) {
    std::string maps;  // empty for a thread that has exited
    if (proc::readAll(proc::path(pid, "task/" + std::to_string(tid) + "/maps"), &maps) && !maps.empty())
      return holdsCode(tid, maps);
  }
  return false;
}

pid_t deadHelper(pid_t child) {
  std::string status;
  if (!proc::readAll(proc::path(child, "status"), &status) || proc::statusField(status, "Name") != kHelperName ||
      proc::statusField(status, "State")[0] != 'Z')
    return 0;
  const std::string numbers = proc::statusField(status, "NSpid");  // from the outermost namespace to its own
  return std::atoi(numbers.c_str() + numbers.find_last_of(" \t") + 1);
}

void checkNamespaces(pid_t pid, pid_t tid) {
  const std::string directory = proc::path(pid, "task/" + std::to_string(tid) + "/ns/");
  for (const char* name : {"pid", "time"}) {
    const std::string own = proc::link(directory + name);  // empty: a kernel without such namespaces
    if (own.empty() || own == proc::link(directory + name + "_for_children")) continue;
    throw Error(ErrorKind::kNamespace, "process " + std::to_string(pid) + " has put its future children into another " +
                                           name + " namespace (unshare): page one of its children instead");
  }
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
