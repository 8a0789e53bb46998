// A test case a function; one line of output each: `ok NAME`, `not ok NAME why`, `skip NAME reason`. The exit status
// counts failures. An argument runs only the cases whose name contains it.
#pragma once
#include <cstdio>
#include <cstring>
#include <exception>
#include <stdexcept>
#include <string>
#include <vector>

namespace check {

struct Skip : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct Case {
  const char* name;
  void (*body)();
};
inline std::vector<Case>& cases() {
  static std::vector<Case> all;
  return all;
}
struct Register {
  Register(const char* name, void (*body)()) { cases().push_back({name, body}); }
};

inline void fail(const char* file, int line, const std::string& what) {
  throw std::runtime_error(std::string(std::strrchr(file, '/') ? std::strrchr(file, '/') + 1 : file) + ":" +
                           std::to_string(line) + ": " + what);
}

inline int run(int argc, char** argv) {
  int failures = 0;
  for (const Case& each : cases()) {
    if (argc > 1 && !std::strstr(each.name, argv[1])) continue;
    try {
      each.body();
      std::printf("ok %s\n", each.name);
    } catch (const Skip& skip) {
      std::printf("skip %s %s\n", each.name, skip.what());
    } catch (const std::exception& error) {
      std::printf("not ok %s %s\n", each.name, error.what());
      failures++;
    }
    std::fflush(stdout);
  }
  return failures ? 1 : 0;
}

}  // namespace check

#define TEST(name)                                           \
  static void name();                                        \
  static const check::Register register_##name(#name, name); \
  static void name()
#define CHECK(condition)                                           \
  do {                                                             \
    if (!(condition)) check::fail(__FILE__, __LINE__, #condition); \
  } while (0)
#define CHECK_EQUAL(a, b)                                                                            \
  do {                                                                                               \
    const auto left = (a);                                                                           \
    const auto right = (b);                                                                          \
    if (!(left == right))                                                                            \
      check::fail(__FILE__, __LINE__,                                                                \
                  std::string(#a " is ") + std::to_string(left) + ", not " + std::to_string(right)); \
  } while (0)
