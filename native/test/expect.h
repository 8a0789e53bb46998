// The little that a test's main() needs: expectations that say where they failed, and one line a test.
#pragma once
#include <cstdio>

namespace leap::testing {

inline int failed = 0;       // tests of this program that failed
inline bool current = true;  // the test that runs now is fine so far

inline void expect(bool holds, const char* what, int line) {
  if (holds || !current) return;
  current = false;
  std::printf("# line %d: %s\n", line, what);
}

template <typename Test>
void run(const char* name, Test test) {
  current = true;
  test();
  if (current) {
    std::printf("ok %s\n", name);
  } else {
    std::printf("not ok %s see the line above\n", name);
    failed++;
  }
  std::fflush(stdout);
}

inline void skip(const char* name, const char* reason) { std::printf("skip %s %s\n", name, reason); }

}  // namespace leap::testing

#define EXPECT(condition) leap::testing::expect((condition), #condition, __LINE__)
