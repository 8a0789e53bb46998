// Attach to a running process, and let go of it again, as a bracket: every step pushes its undo, so that a failure
// leaves the target as it was.
//
// All of it, and every call on the helper, must come from one thread: ptrace knows the thread that attached.
// A thread of the target stands still for about a third of a millisecond; nothing is written to its text, stack or
// data.
#pragma once
#include <sys/types.h>
#include <cstdint>
#include <memory>

#include "base/error.h"
#include "helper/helper.h"

namespace leap {

struct AttachOptions {
  bool allowMove = true;    // false: behave as on a kernel without UFFDIO_MOVE
  bool allowVector = true;  // false: as on one that takes one madvise a run (before 6.13)
};

struct Attached {
  pid_t pid = -1;
  int pidfd = -1;         // ours; readable when the process has exited
  int uffd = -1;          // ours; O_NONBLOCK, UFFDIO_API done
  uint64_t features = 0;  // userfaultfd features in force
  int targetFd =
      -1;  // the target's own number of the same: it keeps it open, so that its threads wait and lose nothing if we die
  Area area;                // our pages in the target: never to be registered with userfaultfd
  pid_t helperInside = -1;  // the helper's number in the target's pid namespace: the target must wait for it in the end
  std::unique_ptr<Helper> helper;  // may be dropped (reset) when it is lost; detach works all the same
};

// The userfaultfd features of this kernel, asked on a descriptor of our own. Throws Error "kernel-too-old",
// "not-permitted".
uint64_t probeFeatures();

// Throws Error.
Attached attach(pid_t pid, const AttachOptions& options);

// The same for a forked child of an attached process: `uffd` came with UFFD_EVENT_FORK and becomes Attached::uffd (set
// O_NONBLOCK here). The child's inherited descriptor, parent.targetFd, is replaced by its own. On failure throws Error
// and `uffd` stays the caller's, open; "timeout" means that the child is waiting in the kernel for pages: serve its
// faults and try again.
Attached adopt(pid_t pid, int uffd, const Attached& parent, const AttachOptions& options);

// Ends it. The caller has put all pages back and unregistered all ranges. Kills the helper and has the target reap it,
// closes the descriptor in the target, unmaps our area, closes ours. A dead target is fine. Throws Error when a live
// target cannot be stopped ("frozen": by its control group): then detach may be called again, or abandon.
void detach(Attached& attached);

// The target is gone or has called exec: kills the helper, closes our descriptors. Never throws.
void abandon(Attached& attached) noexcept;

// Lets go of threads that an adopt which timed out had asked to stop, once they have. Call it now and then; it costs
// nothing when there are none. Returns true while some are left: look again within a millisecond or so, they stand
// still until then.
bool releaseStragglers() noexcept;

// Before this process ends: waits, bounded, for a thread that was frozen in the midst of an attach or detach and would
// go on with what we had it do. Returns true when there is one all the same: it is lost when it is thawed.
bool awaitStragglers() noexcept;

// Tests: called at every step, with its number.
extern void (*atStep)(int step);
// Tests: the n-th step of the next bracket fails (1 is the first; 0 none); counts down as steps pass. stepsPassed
// counts them.
extern int failAtStep;
extern int stepsPassed;

}  // namespace leap
