// An expected failure of attach: one line that says what is wrong and what to do, and a stable word to tell the kinds
// apart.
#pragma once
#include <cstring>
#include <stdexcept>
#include <string>
#include <utility>

namespace leap {

// Kinds: "no-process", "kernel-thread", "self", "helper", "zombie", "not-permitted", "traced", "already-managed",
// "orphaned", "32-bit", "seccomp", "kernel-too-old", "frozen" (by its control group), "timeout" (no thread of the
// target could be stopped in time), "limit" (the target lacks descriptors or address space), "failed".
struct Error : std::runtime_error {
  int code;          // errno, or 0
  std::string kind;  // stable: tests and the command line depend on it
  Error(std::string kindWord, const std::string& what, int errnoValue = 0)
      : std::runtime_error(errnoValue ? what + " (" + std::strerror(errnoValue) + ")" : what),
        code(errnoValue),
        kind(std::move(kindWord)) {}
};

}  // namespace leap
