// The search for a syscall instruction: the vDSO first, then every other executable mapping.
#include "target/gadget.h"

#include <sys/uio.h>
#include <algorithm>
#include <cstdio>
#include <sstream>
#include <string>
#include <vector>

#include "base/procfs.h"
#include "target/arch_x86_64.h"

namespace leap {
namespace {

constexpr size_t kSearched = 4 << 20;  // bytes of a mapping, from its start

uint64_t searchMapping(pid_t tid, uint64_t from, uint64_t to) {
  std::vector<uint8_t> code(std::min<size_t>(to - from, kSearched));
  const iovec local{code.data(), code.size()}, remote{reinterpret_cast<void*>(from), code.size()};
  const ssize_t got = process_vm_readv(tid, &local, 1, &remote, 1, 0);
  if (got <= 0) return 0;
  const size_t found = arch::findSyscall(code.data(), static_cast<size_t>(got));
  return found < static_cast<size_t>(got) ? from + found : 0;
}

}  // namespace

uint64_t findSyscall(pid_t pid, pid_t tid) {
  std::string maps;
  if (!proc::readAll(proc::path(pid, "task/" + std::to_string(tid) + "/maps"), &maps)) return 0;
  // The vDSO is small, the same in every process, and no dlclose unmaps it meanwhile.
  for (const bool vdso : {true, false}) {
    std::istringstream lines(maps);
    for (std::string line; std::getline(lines, line);) {
      unsigned long from, to;
      char permissions[8];
      if (sscanf(line.c_str(), "%lx-%lx %7s", &from, &to, permissions) != 3 || permissions[0] != 'r' ||
          permissions[2] != 'x')
        continue;
      const auto names = [&line](const char* name) { return line.find(name) != std::string::npos; };
      if (vdso != names("[vdso]") || names("[vsyscall]")) continue;
      if (const uint64_t found = searchMapping(tid, from, to)) return found;
    }
  }
  return 0;
}

}  // namespace leap
