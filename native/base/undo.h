// Owners for a bracket of steps that may fail in the middle.
#pragma once
#include <unistd.h>
#include <functional>
#include <utility>
#include <vector>

#include "base/error.h"

namespace leap {

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

}  // namespace leap
