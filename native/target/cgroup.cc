#include "target/cgroup.h"

#include <fcntl.h>
#include <unistd.h>
#include <sstream>
#include <string>
#include <vector>

#include "base/procfs.h"

namespace leap::cgroup {
namespace {

// Where a hierarchy is mounted; `root` is what of it is seen there.
struct Mount {
  bool unified;
  std::string root, at;
};

struct Group {
  Mount mount;
  std::string directory;
};

bool hasWord(const std::string& list, const std::string& word) {
  return ("," + list + ",").find("," + word + ",") != std::string::npos;
}

std::vector<Mount> mounts() {
  std::vector<Mount> found;
  std::string text;
  proc::readAll("/proc/self/mountinfo", &text);
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    const size_t dash = line.find(" - ");
    if (dash == std::string::npos) continue;
    std::string skip, root, at, type, source, options;
    std::istringstream(line) >> skip >> skip >> skip >> root >> at;
    std::istringstream(line.substr(dash + 3)) >> type >> source >> options;
    if (type == "cgroup2" || (type == "cgroup" && hasWord(options, "freezer")))
      found.push_back({type == "cgroup2", root == "/" ? "" : root, at});
  }
  return found;
}

// The groups of a process that may be frozen.
std::vector<Group> groups(pid_t pid) {
  std::vector<Group> found;
  std::string text;
  proc::readAll(proc::path(pid, "cgroup"), &text);
  for (const Mount& mount : mounts()) {
    std::istringstream lines(text);
    for (std::string line; std::getline(lines, line);) {  // number:controllers:path
      const size_t first = line.find(':'), second = line.find(':', first + 1);
      if (second == std::string::npos) continue;
      if (mount.unified ? second != first + 1 : !hasWord(line.substr(first + 1, second - first - 1), "freezer"))
        continue;
      const std::string path = line.substr(second + 1);
      if (path.compare(0, mount.root.size(), mount.root) == 0)
        found.push_back({mount, mount.at + path.substr(mount.root.size())});
    }
  }
  return found;
}

bool isFrozen(const Group& group) {
  std::string text;
  if (!group.mount.unified) return proc::readAll(group.directory + "/freezer.state", &text) && text != "THAWED\n";
  if (proc::readAll(group.directory + "/cgroup.events", &text) && text.find("frozen 1") != std::string::npos)
    return true;
  // Asked for, of it or of one above it, but some process is not there yet.
  for (std::string at = group.directory; at.size() > group.mount.at.size(); at.erase(at.rfind('/'))) {
    if (proc::readAll(at + "/cgroup.freeze", &text) && text == "1\n") return true;
  }
  return false;
}

}  // namespace

bool frozen(pid_t pid) {
  for (const Group& group : groups(pid)) {
    if (isFrozen(group)) return true;
  }
  return false;
}

bool join(pid_t pid) {
  bool moved = false;
  const std::string number = std::to_string(pid);
  const std::vector<Group> theirs = groups(pid);
  for (const Group& ours : groups(getpid())) {
    for (const Group& group : theirs) {
      if (group.mount.at != ours.mount.at || group.directory == ours.directory) continue;
      const int fd = open((ours.directory + "/cgroup.procs").c_str(), O_WRONLY | O_CLOEXEC);
      moved |= fd >= 0 && write(fd, number.data(), number.size()) == static_cast<ssize_t>(number.size());
      if (fd >= 0) close(fd);
    }
  }
  return moved;
}

}  // namespace leap::cgroup
