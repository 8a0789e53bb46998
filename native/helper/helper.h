// The helper: a process that shares the target's memory, stays stopped under ptrace, and does for us what the kernel
// allows only from inside.
//
// Every call must come from the thread that attached (ptrace demands it). No call allocates. The two ways to take pages
// away:
//   moveOut   UFFDIO_MOVE victims -> arena (a page is taken at once; pinned or shared ones are refused), read the arena
//   discard   write-protect victims, read them, MADV_DONTNEED; raises one EVENT_REMOVE a page, which is read and
//   swallowed here
//
// Stale addresses are the danger of both: between a munmap and the moment its event is read, other memory may stand at
// the address. The kernel refuses with EAGAIN while an event is unread, but not after. So once an event that changes
// mappings (UNMAP, REMAP, FORK, REMOVE) has been *read*, here through Sink or elsewhere, the caller must let the pager
// see it before the next moveOut or discard: fail those with EAGAIN till the turn ends.
#pragma once
#include <sys/types.h>
#include <cstddef>
#include <cstdint>

#include "base/layout.h"
#include "base/ticker.h"
#include "helper/remove_filter.h"
#include "target/arch_x86_64.h"
#include "uffd/uffd_abi.h"

namespace leap {

class Helper {
 public:
  struct Run {
    uint64_t address;  // page aligned, in one registered range
    uint32_t pages;
    uint8_t* into;  // pages * 4096 bytes of ours
  };
  // userfaultfd messages that were read while we waited for the helper. Called inside discard; must take every message.
  struct Sink {
    virtual void message(const uffd_msg& message) = 0;

   protected:
    ~Sink() = default;
  };
  // Where our pages lie in the target: the pager must never register or evict them.
  struct Area {
    uint64_t start = 0, end = 0;
    uint64_t requests = 0, code = 0, arena = 0;
  };
  struct Parts {
    pid_t pid;          // as we number it
    pid_t pidInTarget;  // as the target's pid namespace does
    int uffd;           // ours; stays the caller's, who keeps it open while the helper lives
    int uffdInside;     // the helper's number of the same
    Area area;
  };

  explicit Helper(const Parts& parts);  // of a process that has just been cloned: stopped, traced by this thread
  ~Helper();  // kills it, and collects it as its tracer; the target must still wait for it (attach.h: detach)
  Helper(const Helper&) = delete;
  Helper& operator=(const Helper&) = delete;

  bool canMove() const { return move_; }
  bool canVector() const { return vector_; }
  bool lost() const { return lost_; }
  pid_t pid() const { return parts_.pid; }
  const Area& area() const { return parts_.area; }

  // The total of pages of one call is at most kBatchPages. status[k] is for the k-th page over all runs: 0 (its bytes
  // are in `into`), or an errno: ENOENT not present, EBUSY pinned or shared, EINVAL not movable, EAGAIN mappings are
  // changing, EFAULT not mapped, EIO not done as the helper died. Returns false when the helper is lost; pages of
  // status 0 have been taken all the same, and their bytes are in `into`.
  bool moveOut(const Run* runs, size_t count, int* status);
  bool discard(const Run* runs, size_t count, int* status, Sink& sink);

  // The helper closes what it inherited, takes its name, finds out what it can do. `filtered`: it inherited a seccomp
  // filter. Throws Error.
  void setUp(bool mayMove, bool mayVector, bool filtered);
  void place(int cpu);  // run on this CPU only: a batch from another CPU costs several times as much
  void kill();          // after this, lost()

 private:
  static constexpr size_t kMaxSteps = kBatchPages + 4;  // moves, and what comes before and after them
  static constexpr uint64_t kVectorOffset =
      7168;                                      // in the request pages, behind the program: ranges for process_madvise
  static constexpr int64_t kNotRun = INT64_MIN;  // the result of a step that was not reached
  struct Step {
    arch::CallStep call;
    union {
      uffdio_move move;
      uffdio_register registration;
      uint64_t one;  // what is written to done_
    };
  };
  struct Piece {  // of a batch: pages that lie one behind the other; `first` counts over the whole batch
    uint64_t address;
    uint32_t first, pages;
  };

  // The program: helper.cc.
  Step& push(int64_t number, uint64_t a = 0, uint64_t b = 0, uint64_t c = 0, uint64_t d = 0, uint64_t e = 0);
  uint64_t requestAddress() const;  // of the last step's request, in the target
  bool start();                     // writes the program and lets the helper run it
  bool ended(int waitStatus);       // false: it was stopped for another reason and runs on
  bool finish();                    // waits for the end of the program
  bool thaw();
  void fetchResults();
  bool execute(const arch::CallStep* calls, size_t count, int64_t* results);
  uint64_t presentMask(uint64_t address, uint32_t pages) const;

  // helper_move.cc
  void pushArena(bool registered);
  void moveRound(const Piece* pieces, size_t count, int* status);
  bool wasMoved(uint64_t address, uint32_t page) const;
  void judgeLost(const Run* runs, size_t count, int* status);
  void readArena(const Run* runs, size_t count, int* status);

  // helper_discard.cc
  int protect(uint64_t address, uint64_t pages, bool on) const;
  void readVictims(const Piece* pieces, size_t count, uint8_t* const* into, int* status);
  void drop(const Piece* pages, size_t count, bool* stays, Sink& sink);
  void finishReading(Sink& sink);
  void callOff();
  bool readMessages(RemoveFilter* filter, Sink& sink) const;

  Parts parts_;
  RemoveFilter filter_;   // of drop()
  Ticker ticker_{false};  // of finish()
  int memory_ = -1,
      pagemap_ = -1;  // /proc/PID/mem and pagemap of the shared memory: they hold on to it when the helper dies
  int done_ = -1, exit_ = -1;  // readable at the end of a program that raises events; when the helper has died
  int selfPidfd_ = -1;         // the helper's number for a pidfd of itself
  int doneInside_ = -1;        // and for done_
  bool move_ = false, vector_ = false;
  bool lost_ = false;        // of no more use
  bool dead_ = false;        // and collected
  bool firstRound_ = false;  // of a batch of moves: its program begins with emptying the arena
  bool emptied_ = false;     // it was: what is in the arena now has come with this batch
  bool written_ = false;     // the last program reached the target's memory
  bool allZero_ = false;     // every step of the last program gave 0
  size_t steps_ = 0;
  Step program_[kMaxSteps];
  arch::Registers registers_{};
};

}  // namespace leap
