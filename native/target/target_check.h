// May this process be attached to at all? Looks only, touches nothing.
#pragma once
#include <sys/types.h>

namespace leap {

inline constexpr char kHelperName[] = "leap-helper";

// Throws Error with the first thing that stands in the way.
void checkTarget(pid_t pid);

// The part of it that may come true later. Throws Error "frozen".
void checkThawed(pid_t pid);

// Whether leapd's pages are in the process. They are not after an exec.
bool hasArea(pid_t pid);

// If `child` is the zombie of a helper: its number in its own pid namespace. Else 0.
pid_t deadHelper(pid_t child);

// Whether thread `tid` can clone a helper into its own namespaces. Throws Error kNamespace.
// After unshare(CLONE_NEWPID) the next child becomes the first process of the new namespace: were it the helper, the
// target could not fork any more once the helper has ended. After unshare(CLONE_NEWTIME) the kernel refuses CLONE_VM.
void checkNamespaces(pid_t pid, pid_t tid);

}  // namespace leap
