// discard: write-protects victims, reads them, and drops them with MADV_DONTNEED. Every drop raises one REMOVE event,
// which is read here and not passed on.
#pragma once
#include "helper/batch.h"
#include "helper/program.h"
#include "helper/remove_filter.h"

namespace leap {

// Descriptors that a discard needs.
struct DiscardFds {
  int uffd = -1;        // leapd's
  int done = -1;        // leapd's number for an eventfd that the program's last step writes to
  int doneInside = -1;  // the helper's number for it
  int selfPidfd = -1;   // the helper's number for a pidfd of itself
  bool vector = false;  // the kernel takes process_madvise(MADV_DONTNEED) (Linux 6.13): one call for all pages
};

// userfaultfd messages that were read while leapd waited for the helper. Must take every message.
struct MessageSink {
  virtual void message(const uffd_msg& message) = 0;

 protected:
  ~MessageSink() = default;
};

class DiscardBatch {
 public:
  DiscardBatch(HelperProcess& process, Program& program, RemoveFilter& filter, const DiscardFds& fds,
               const Batch& batch, MessageSink& sink)
      : process_(process), program_(program), filter_(filter), fds_(fds), batch_(batch), sink_(sink) {}

  // Decides the status of every page. `vector`: where the target's pages hold ranges for process_madvise.
  void run(const Batch::Run* runs, size_t count, uint64_t vector);

 private:
  void protectRun(const Batch::Run& run, uint32_t first) const;
  int protect(uint64_t address, uint64_t pages, bool on) const;
  void readVictims() const;
  void drop(const Batch::Pieces& pages, uint64_t vector, bool* stays);
  void pushDrops(const Batch::Pieces& pages, uint64_t vector);
  void runProgram();
  bool readMessages(bool filtered);

  HelperProcess& process_;
  Program& program_;
  RemoveFilter& filter_;
  const DiscardFds& fds_;
  const Batch& batch_;
  MessageSink& sink_;
};

}  // namespace leap
