// The engine: carries out what the pager commands and tells it what has happened. Mechanism only: nothing is retried or
// decided here.
//
//   turn:  commands, in order  ->  swap file requests handed over  ->  harvest  ->  (nothing? spin, then sleep, and
//   harvest again)
// Copies that went well count as nothing: a pager that has mapped a page waits for the next fault in the same turn, one
// crossing a fault.
//
// Order of one turn's events: the commands' results; then what changes what a page *is* (remove, unmap, remap, fork);
// then faults; then swap file completions; then exits and wakes. So when the pager comes to a fault or a completion it
// knows already that the page has been discarded. A reader that decides while it reads can still be overtaken (a
// kMapped answered with a new kMap, then a kRemove): the next turn refuses, with EAGAIN, to copy a frame into a page
// whose kRemove was delivered together with what led to the command.
//
// One thread creates an engine and calls it: ptrace and the ring both belong to a thread.
#pragma once
#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "attach/attach.h"
#include "engine/event_buffer.h"
#include "engine/poller.h"
#include "helper/helper.h"
#include "rdma/fabric.h"
#include "rdma/remote.h"
#include "store/frames.h"
#include "store/swapfile.h"
#include "uffd/ranges.h"

namespace leap {

// The most commands in one turn; more would be a bug in the pager.
inline constexpr uint32_t kMaxCommands = 1024;
inline constexpr uint32_t kClockWords = 2;

struct EngineOptions {
  uint32_t frames = 0;
  uint64_t seed = 0;
  SwapFileOptions swap;
  AttachOptions attach;
  bool rdma = false;  // openFabric() before the attach
};

class Engine final : private SwapFile::Sink, private Remote::Sink, private Helper::Sink {
 public:
  struct Counters {
    uint64_t turns = 0, helperBatches = 0, staleMaps = 0;
  };

  // Creates the arena and the swap file. Throws Error, and then has left nothing behind.
  explicit Engine(const EngineOptions& options);
  // Without detach() before it: as abandon().
  ~Engine();

  // Makes the process space 0. Throws Error, the process as it was.
  void attach(pid_t pid);
  // Leaves every process as it was found: the pager has put all pages back and unregistered its ranges.
  void detach();
  // Lets go of everything here, and leaves the userfaultfd to the target: threads that touch a stored page wait for
  // whoever comes next.
  void abandon();

  uint32_t turn(uint32_t commandWords, int64_t waitNs);

  int registerRange(uint32_t space, uint64_t start, uint64_t count);
  int unregisterRange(uint32_t space, uint64_t start, uint64_t count);
  int protectRange(uint32_t space, uint64_t start, uint64_t count);
  void bind(uint32_t space, uint64_t start, uint64_t count, uint32_t first);
  void unbind(uint32_t space, uint64_t start, uint64_t count);
  int residency(uint32_t space, uint64_t start, uint64_t count, uint8_t* out);
  bool canEvict(uint32_t space) const { return known(space) && spaces_[space].attached.helper != nullptr; }
  bool isAlive(uint32_t space);
  void drop(uint32_t space);

  // Tells whose address space a forked child's is, and gives it a helper. Throws Error, the space as it was.
  void adopt(uint32_t space, pid_t pid);
  pid_t pidOf(uint32_t space) const { return known(space) ? spaces_[space].attached.pid : 0; }
  // Whose /proc shows the address space: the helper's where there is one, for it lasts when the first thread of the
  // process has left.
  pid_t viewOf(uint32_t space) const {
    return known(space) && spaces_[space].attached.helper ? spaces_[space].attached.helper->pid() : pidOf(space);
  }

  // Our own pages in the space, which are nobody's to register; all zeros when it has no helper.
  Area areaOf(uint32_t space) const { return canEvict(space) ? spaces_[space].attached.helper->area() : Area{}; }
  bool canMove() const { return canEvict(0) && spaces_[0].attached.helper->canMove(); }
  bool canVector() const { return canEvict(0) && spaces_[0].attached.helper->canVector(); }

  void setSpin(int64_t ns) { spinNs_ = ns; }
  void placeHelpers(int cpu);
  int wakeFd() const { return wakeFd_; }  // an eventfd: a write ends the wait with kWake

  int32_t* commands() const { return commands_.get(); }
  EventBuffer& events() { return events_; }
  double* clock() { return clockNs_; }  // kClockWords of them: see src/core/engine.ts
  Frames& frames() { return frames_; }
  const SwapFile& swapFile() const { return swap_; }
  // From now on chunks may be mapped on donors. Takes an RDMA device: throws Error, everything as it was. A second call
  // changes nothing.
  void openFabric();
  Fabric* fabric() { return fabric_.get(); }  // null before openFabric(), and so is remote()
  Remote* remote() { return remote_.get(); }
  const Counters& counters() const { return counters_; }
  uint64_t features() const { return spaces_[0].attached.features; }

 private:
  struct Space {
    bool used = false;
    bool gone = false;      // kTargetExit has been or will be delivered
    bool announce = false;  // ... will be
    bool changing = false;  // a message of `pending_` says that the mappings change: nothing may be mapped before the
                            // pager has seen it
    bool deaf = false;      // its messages cannot be read, which has been told
    uint32_t parent = 0;    // the space that it was forked from
    Attached attached;
  };
  struct Message {
    uint32_t space;
    uffd_msg body;
  };
  struct Removed {
    uint32_t space;
    uint64_t start, end;
  };

  // What the poller reports: a wake, the swap file, the fabric, or a space's messages or exit.
  static constexpr uint32_t kWakeTag = 0, kSwapTag = 1, kFabricTag = 2;
  static constexpr uint32_t kFirstSpaceTag = 4;
  static uint32_t messageTag(uint32_t space) { return kFirstSpaceTag + 2 * space; }
  static uint32_t exitTag(uint32_t space) { return kFirstSpaceTag + 1 + 2 * space; }

  bool known(uint32_t space) const { return space < kMaxSpaces && spaces_[space].used; }

  void handOver();

  // engine_commands.cc
  void execute(uint32_t words);
  uint32_t map(uint32_t first, uint32_t end);
  void fill(Command command, uint32_t page, int32_t frame, uint32_t count);
  void touch(Command command, uint32_t page, uint32_t count);
  uint32_t evict(const int32_t* commands, uint32_t left);
  uint32_t gatherBatch(const int32_t* words, uint32_t left, Helper::Run* runs, uint32_t* pages, uint32_t* space) const;
  void reportEvicted(const int32_t* command, const Helper::Run& run, int* status);
  void transfer(bool write, uint32_t place, int32_t slot, int32_t frame, uint32_t count);
  void transferred(bool write, uint32_t place, uint32_t slot, uint32_t frame, uint32_t count, int error);
  const Range* resolve(uint32_t page, uint32_t count) const;
  bool wasRemoved(const Range& range, uint32_t page, uint32_t count) const;
  void noteGone(uint32_t space, int error);
  void unwatch(uint32_t space);
  void done(const SwapFile::Request& request, int error) override;
  void done(const Remote::Request& request, int error) override;

  // engine_harvest.cc
  void harvest(bool wait, int64_t waitNs);
  bool promptFault();
  void look(int64_t timeoutNs);
  void readMessages(uint32_t space);
  void deaf(uint32_t space, int error);
  void deliver();
  void deliverPending();
  void deliverChange(const Message& message);
  void deliverFault(const Message& message);
  void deliverFork(const Message& message);
  void deliverRest();
  void message(const uffd_msg& message) override;
  int64_t nowNs() const;

  EngineOptions options_;
  Frames frames_;
  Poller poller_;
  SwapFile swap_;
  std::unique_ptr<Fabric> fabric_;
  std::unique_ptr<Remote> remote_;
  Ranges ranges_;
  std::array<Space, kMaxSpaces> spaces_;
  uint32_t spacesEnd_ = 0;    // one past the highest space in use
  std::vector<int> orphans_;  // descriptors of children beyond kMaxSpaces, kept open: closing one would turn its stored
                              // pages to zeros

  std::unique_ptr<int32_t[]> commands_;
  EventBuffer events_;
  double clockNs_[kClockWords] = {};
  std::vector<Message> pending_;  // read, not delivered yet
  std::vector<Removed> removed_;  // delivered by the last turn
  uint32_t batchSpace_ = 0;       // whose messages message() receives
  bool quiet_ = true;             // the turn's commands gave nothing that the pager must see before it waits
  bool woken_ = false;
  int wakeFd_ = -1;
  int64_t spinNs_ = 0;
  uint32_t looksSkipped_ = 0;
  uint32_t promptness_ = 0;  // see promptFault
  Counters counters_;
};

}  // namespace leap
