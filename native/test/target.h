// Targets for the tests: forked children that run a function, and what their /proc says of them.
#pragma once
#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <map>
#include <set>
#include <sstream>
#include <string>
#include <thread>

#include "base/procfs.h"
#include "check.h"

namespace test {

inline void sleepMs(int ms) {
  const timespec t{ms / 1000, ms % 1000 * 1000000l};
  nanosleep(&t, nullptr);
}

// Seen by both sides.
struct Shared {
  std::atomic<int> ready{0}, go{0}, stop{0}, result{0};
  std::atomic<long> counter{0}, extra{0};
  std::atomic<uint64_t> address{0};
};

inline bool waitFor(const std::function<bool()>& condition, int ms = 5000) {
  for (int i = 0; i < ms; i++) {
    if (condition()) return true;
    sleepMs(1);
  }
  return condition();
}

// A thread that repeats an action, with a pause, until it goes out of scope.
class Repeating {
 public:
  Repeating(const std::function<void()>& action, int pauseMicroseconds)
      : thread_([this, action, pauseMicroseconds] {
          while (!over_) {
            action();
            std::this_thread::sleep_for(std::chrono::microseconds(pauseMicroseconds));
          }
        }) {}
  ~Repeating() {
    over_ = true;
    thread_.join();
  }

 private:
  std::atomic<bool> over_{false};
  std::thread thread_;
};

class Target {
 public:
  explicit Target(const std::function<int(Shared&)>& body) {
    shared_ =
        static_cast<Shared*>(mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
    new (shared_) Shared;
    fflush(stdout);
    pid_ = fork();
    if (pid_ == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);  // a test that crashes leaves nothing behind
      _exit(body(*shared_));
    }
  }
  ~Target() {
    if (pid_ > 0) {
      kill(pid_, SIGKILL);
      waitpid(pid_, nullptr, 0);
    }
    munmap(shared_, sizeof(Shared));
  }
  Shared* operator->() { return shared_; }
  pid_t pid() const { return pid_; }
  void awaitReady(int value = 1) {
    if (!waitFor([&] { return shared_->ready >= value; })) throw std::runtime_error("the target did not become ready");
  }
  void awaitState(char letter) {
    if (waitFor([&] { return leap::proc::state(pid_, pid_) == letter; })) return;
    throw std::runtime_error(std::string("the target never was in state ") + letter);
  }
  // The exit status of the target, -1 when it does not end by itself.
  int join(int ms = 10000) {
    int status = -1;
    if (!waitFor([&] { return waitpid(pid_, &status, WNOHANG) == pid_; }, ms)) return -1;
    pid_ = -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
  }

 private:
  Shared* shared_;
  pid_t pid_;
};

// What must be the same before and after: of status without counters, descriptors, mappings, threads, children.
inline std::string snapshot(pid_t pid) {
  static const std::set<std::string> volatileFields = {"State",
                                                       "SigQ",
                                                       "FDSize",
                                                       "VmPeak",
                                                       "VmHWM",
                                                       "VmRSS",
                                                       "RssAnon",
                                                       "RssFile",
                                                       "RssShmem",
                                                       "VmPTE",
                                                       "voluntary_ctxt_switches",
                                                       "nonvoluntary_ctxt_switches",
                                                       "Cpus_allowed",
                                                       "VmLib",
                                                       "VmSwap"};
  std::string text, out;
  leap::proc::readAll(leap::proc::path(pid, "status"), &text);
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    if (!volatileFields.count(line.substr(0, line.find(':')))) out += line + "\n";
  }
  leap::proc::readAll(leap::proc::path(pid, "maps"), &text);
  out += text;
  std::map<int, std::string> fds;
  if (DIR* dir = opendir(leap::proc::path(pid, "fd").c_str())) {
    while (const dirent* entry = readdir(dir)) {
      if (entry->d_name[0] == '.') continue;
      char link[256] = {};
      (void)!readlink(leap::proc::path(pid, std::string("fd/") + entry->d_name).c_str(), link, sizeof link - 1);
      fds[atoi(entry->d_name)] = link;
    }
    closedir(dir);
  }
  for (const auto& [number, link] : fds) out += std::to_string(number) + " -> " + link + "\n";
  for (const pid_t tid : leap::proc::threads(pid)) out += "thread " + std::to_string(tid) + "\n";
  for (const pid_t child : leap::proc::children(pid)) out += "child " + std::to_string(child) + "\n";
  return out;
}

inline std::string firstDifference(const std::string& a, const std::string& b) {
  std::istringstream left(a), right(b);
  for (std::string l, r;;) {
    const bool haveLeft = bool(std::getline(left, l)), haveRight = bool(std::getline(right, r));
    if (!haveLeft && !haveRight) return "";
    if (!haveLeft) l = "(end)";
    if (!haveRight) r = "(end)";
    if (l != r) return "before: " + l + " | after: " + r;
  }
}

// The least a target can do.
inline int idle(Shared& shared) {
  shared.ready = 1;
  while (!shared.stop) sleepMs(1);
  return 0;
}

inline void checkSame(const std::string& before, pid_t pid) {
  const std::string difference = firstDifference(before, snapshot(pid));
  if (!difference.empty()) check::fail(__FILE__, __LINE__, difference);
}

}  // namespace test
