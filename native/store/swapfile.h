// The swap file: slot s lies at offset s * 4096. Reads and writes of whole slots, between the file and the frame arena.
//
//   request() -> backlog (FIFO, in order) -> flush(): neighbours joined, one readv or writev of at most 64 pages ->
//   ring -> harvest(): one answer a request
//
// Operations come from a fixed pool as deep as the ring; when it is empty requests wait in the backlog, which holds one
// request a frame: no frame is in two requests at once, so it cannot overflow. On tmpfs, and where io_uring is refused,
// the operations are carried out by harvest() itself.
#pragma once
#include <liburing.h>
#include <sys/uio.h>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/layout.h"

namespace leap {

// Faults to order, for tests. Each counts requests; negative: never.
struct Injection {
  int64_t failWriteAfter = -1;    // every write after that many fails with ENOSPC
  int64_t failReadAfter = -1;     // every read after that many fails with EIO
  int64_t corruptReadAfter = -1;  // the one read after that many comes back with a bit flipped
};

struct SwapFileOptions {
  std::string path;
  bool direct = true;   // O_DIRECT where the file system has it
  bool useRing = true;  // false: synchronous, as on tmpfs
  Injection inject;
};

class SwapFile {
 public:
  struct Request {
    bool write;
    uint32_t slot;
    uint32_t frame;
    uint32_t count;
  };
  struct Counters {
    uint64_t operations = 0, pagesRead = 0, pagesWritten = 0;
  };
  // Told of every request, once, when it is through; error 0 or an errno.
  struct Sink {
    virtual void done(const Request& request, int error) = 0;

   protected:
    ~Sink() = default;
  };

  // Creates the file, or takes an empty one of our own, and makes the ring. The frames must outlive this object. Throws
  // Error.
  SwapFile(const SwapFileOptions& options, uint8_t* frames, uint32_t frameCount);
  // Waits for what is in flight (a bounded time), and closes. The file stays.
  ~SwapFile();
  SwapFile(const SwapFile&) = delete;
  SwapFile& operator=(const SwapFile&) = delete;

  // False: the backlog is full, which only a caller that has one frame in two requests can bring about.
  bool request(const Request& request);
  // Hands as much of the backlog to the kernel as there are operations.
  void flush();
  // Reports what is through, at most `room` requests of it. Returns how many.
  size_t harvest(size_t room, Sink& sink);

  // Readable when an operation is through; -1 when there is no ring.
  int pollFd() const { return ringReady_ ? ring_.ring_fd : -1; }
  bool idle() const { return inFlight_ == 0 && backlogUsed_ == 0; }
  bool usesRing() const { return ringReady_; }
  bool isDirect() const { return direct_; }
  const Counters& counters() const { return counters_; }
  // Takes the file away again if it was made here.
  void undo() const;

 private:
  struct Operation {
    Request parts[kBatchPages];
    iovec pieces[kBatchPages];
    uint32_t partCount, pieceCount, pages, slot;
    bool write;
    Operation* nextFree;
  };

  bool openRing();
  void gather(Operation* operation);
  void growTo(uint64_t bytes);
  void submit(Operation* operation);
  ssize_t carryOut(const Operation& operation);
  void finish(Operation* operation, int64_t result, Sink& sink);
  int injected(const Request& part);

  SwapFileOptions options_;
  uint8_t* frames_;
  int fd_ = -1;
  bool created_ = false;
  bool direct_ = false;
  uint64_t sizeBytes_ = 0;

  io_uring ring_{};
  bool ringReady_ = false;
  std::unique_ptr<Operation[]> pool_;
  Operation* free_ = nullptr;
  uint32_t inFlight_ = 0;

  std::vector<Request> backlog_;
  size_t backlogHead_ = 0, backlogUsed_ = 0;
  Counters counters_;
};

}  // namespace leap
