// Control groups, as far as they freeze processes. What is frozen does not run, not even a call of ours in its name;
// under cgroup v1 it does not stop for its tracer either, nor die, before it is thawed.
#pragma once
#include <sys/types.h>

namespace leap::cgroup {

bool frozen(pid_t pid);
// Moves a process, which that thaws, to where we are ourselves in every hierarchy that freezes. Returns false when it
// was there already, or may not be moved.
bool join(pid_t pid);

}  // namespace leap::cgroup
