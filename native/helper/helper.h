// Helper: a process that shares the target's memory, stays stopped under ptrace, and makes the system calls that the
// kernel allows only from inside.
//
// Every call must come from the thread that attached (ptrace demands it). No call allocates. Two ways to take pages:
//   moveOut   UFFDIO_MOVE victims to the arena (the kernel takes a page atomically and refuses pinned or shared ones),
//             then read the arena
//   discard   write-protect victims, read them, MADV_DONTNEED; raises one REMOVE event a page, which is read here
//
// Stale addresses are the danger of both: between a munmap and the reading of its event, other memory may appear at the
// address. The kernel refuses with EAGAIN while an event is unread, but not after. So once an event that changes
// mappings (UNMAP, REMAP, FORK, REMOVE) has been read, through Sink or elsewhere, the caller must show it to the pager
// before the next moveOut or discard: fail those with EAGAIN until the turn ends.
#pragma once
#include <sys/types.h>
#include <cstddef>
#include <cstdint>

#include "helper/area.h"
#include "helper/batch.h"
#include "helper/discard.h"
#include "helper/process.h"
#include "helper/program.h"
#include "helper/remove_filter.h"

namespace leap {

class Helper {
 public:
  using Run = Batch::Run;
  using Sink = MessageSink;
  struct Parts {
    pid_t pid;          // in leapd's pid namespace
    pid_t pidInTarget;  // in the target's
    int uffd;           // leapd's; belongs to the caller, who keeps it open while the helper lives
    int uffdInside;     // the helper's number of the same
    Area area;
  };

  explicit Helper(const Parts& parts);  // of a process that has just been cloned: stopped, traced by this thread
  ~Helper();  // kills it and collects it as its tracer; the target must still wait for it (attach.h: detach)
  Helper(const Helper&) = delete;
  Helper& operator=(const Helper&) = delete;

  bool canMove() const { return move_; }
  bool canVector() const { return fds_.vector; }
  bool lost() const { return process_.lost(); }
  pid_t pid() const { return process_.pid(); }
  const Area& area() const { return parts_.area; }

  // The runs have at most kBatchPages pages together. status[k] is for the k-th page over all runs: 0 (its bytes are in
  // `into`), or an errno: ENOENT not present, EBUSY pinned or shared, EINVAL not movable, EAGAIN mappings are changing,
  // EFAULT not mapped, EIO not done because the helper died. Returns false when the helper is lost; pages of status 0
  // have been taken all the same.
  bool moveOut(const Run* runs, size_t count, int* status);
  bool discard(const Run* runs, size_t count, int* status, Sink& sink);

  // Closes what the helper inherited, names it, finds out what it can do. Throws Error.
  void setUp(bool mayMove, bool mayVector);
  void bindTo(int cpu) const { process_.bindTo(cpu); }

 private:
  void control();
  void prepare();
  bool vectorWorks();

  const Parts parts_;
  HelperProcess process_;
  Program program_;
  RemoveFilter filter_;
  DiscardFds fds_;
  bool move_ = false;
};

}  // namespace leap
