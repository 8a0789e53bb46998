// A control group that freezes what is in it.
#pragma once
#include <sys/stat.h>
#include <atomic>
#include <fstream>
#include <sstream>

#include "target.h"

namespace test {

class Freezer {
 public:
  // Of cgroup v2, or of v1. Skips the test where there is none to be had.
  explicit Freezer(bool unified) : unified_(unified) {
    std::ifstream mounts("/proc/mounts");
    for (std::string line; std::getline(mounts, line);) {
      std::string source, at, type, options;
      std::istringstream(line) >> source >> at >> type >> options;
      if (unified ? type == "cgroup2" : type == "cgroup" && options.find("freezer") != std::string::npos) path_ = at;
    }
    if (path_.empty()) throw check::Skip(unified ? "no cgroup v2" : "no freezer of cgroup v1");
    path_ += "/leap-test-" + std::to_string(getpid());
    if (mkdir(path_.c_str(), 0755) || (unified && access((path_ + "/cgroup.freeze").c_str(), W_OK)))
      throw check::Skip("no control group to be had");
  }
  ~Freezer() {
    put("cgroup.kill", "1");
    thaw();
    waitFor([this] { return rmdir(path_.c_str()) == 0; }, 1000);
  }
  void add(pid_t pid) {
    if (!put("cgroup.procs", std::to_string(pid))) check::fail(__FILE__, __LINE__, "cgroup.procs");
  }
  void freeze() {
    put(unified_ ? "cgroup.freeze" : "freezer.state", unified_ ? "1" : "FROZEN");
    wasFrozen_ = true;
  }
  bool wasFrozen() const { return wasFrozen_; }
  void thaw() {
    put(unified_ ? "cgroup.freeze" : "freezer.state", unified_ ? "0" : "THAWED");
    wasFrozen_ = false;
  }

 private:
  bool put(const char* name, const std::string& text) const {
    const int fd = open((path_ + "/" + name).c_str(), O_WRONLY | O_CLOEXEC);
    const bool well = fd >= 0 && write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size());
    if (fd >= 0) close(fd);
    return well;
  }

  bool unified_;
  std::atomic<bool> wasFrozen_{false};
  std::string path_;
};

}  // namespace test
