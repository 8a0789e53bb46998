// May this process be attached to at all? Looks only, touches nothing.
#pragma once
#include <sys/types.h>

namespace leap {

inline constexpr char kHelperName[] = "leap-helper";

// Throws Error with the first thing that stands in the way.
void checkTarget(pid_t pid);

// The part of it that may come true later. Throws Error "frozen".
void checkThawed(pid_t pid);

}  // namespace leap
