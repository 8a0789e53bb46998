// The chunks that donors hold for us: which replica of which chunk is where, and the reads and writes that go there.
// The pager maps and unmaps; a request names a replica and slots, and this turns it into one-sided operations of the
// fabric.
//
//   request() -> a line per connection, in order -> flush(): as many as the connection has contexts -> fabric ->
//   harvest(): one answer a request
//
// An answer of a replica that has been unmapped since, or mapped elsewhere, is ECANCELED whatever became of the
// operation: nobody must take it for a copy.
#pragma once
#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "base/layout.h"
#include "rdma/fabric.h"
#include "store/frames.h"

namespace leap {

// Latencies by powers of two, four steps in each: within 19 %.
class LatencyHistogram {
 public:
  void record(int64_t ns);
  // The upper edge of the bucket that holds the q-th part of what was recorded, ns; 0 when nothing was.
  double quantile(double q) const;
  uint64_t count() const { return count_; }

 private:
  static constexpr uint32_t kSteps = 4, kBuckets = 64 * kSteps;
  std::array<uint32_t, kBuckets> buckets_{};
  uint64_t count_ = 0;
};

class Remote : private Fabric::Sink {
 public:
  struct Request {
    bool write;
    uint32_t replica;
    uint32_t slot;
    uint32_t frame;
    uint32_t count;
  };
  struct Sink {
    virtual ~Sink() = default;
    virtual void done(const Request& request, int error) = 0;
  };
  // What has gone over one connection, in pages; the latency is that of reads, from the doorbell's turn to the
  // harvest's.
  struct Traffic {
    uint64_t reads = 0, writes = 0;
    LatencyHistogram readLatency;
  };

  Remote(Fabric& fabric, Frames& frames);

  // All chunks are of this many slots, a power of two. Before anything is mapped.
  void setChunk(uint32_t slots);
  // False: no such replica or chunk.
  bool map(uint32_t replica, uint32_t chunk, uint32_t connection, uint32_t rkey, uint64_t address);
  void unmap(uint32_t replica, uint32_t chunk);

  // False: the request is no good (it crosses the edge of a chunk), or more are on their way than there are frames for.
  bool request(const Request& request);
  void flush(int64_t nowNs);
  // Reports at most `room` requests that are through.
  void harvest(size_t room, int64_t nowNs, Sink& sink);
  bool idle() const { return waiting_ == 0 && inFlight_ == 0 && answersUsed_ == 0; }
  // Of a connection; null when nothing has gone over it.
  const Traffic* traffic(uint32_t connection) const;

 private:
  static constexpr uint32_t kNone = UINT32_MAX;
  // A chunk on a donor may be 2^17 of 4 KiB pages and more; a family has at most 2^30 pages.
  static constexpr uint32_t kMostChunks = 1u << 20;

  struct Mapping {
    uint32_t connection = 0;  // 0: unmapped
    uint32_t rkey = 0;
    uint64_t address = 0;
    uint32_t generation = 0;  // counts the changes
  };
  struct Operation {
    Request request;
    uint32_t generation;
    uint32_t connection;
    int64_t begunNs;
    int error;
    uint32_t next;  // in its line, or in the list of free ones
  };
  // What waits for a context of a connection, oldest first.
  struct Line {
    uint32_t connection;
    uint32_t first = kNone, last = kNone;
    Traffic traffic;
  };

  void completed(uint32_t token, int error) override;
  Mapping* mapping(uint32_t replica, uint32_t slot);
  Line& lineOf(uint32_t connection);
  void answer(uint32_t operation, int error);

  Fabric& fabric_;
  Frames& frames_;
  uint32_t chunkShift_ = 0;
  bool sized_ = false;
  std::vector<Mapping> mappings_[kReplicas];
  std::vector<Operation> operations_;
  uint32_t free_ = kNone;
  std::vector<std::unique_ptr<Line>> lines_;
  std::vector<uint32_t> answers_;  // a ring
  size_t answersHead_ = 0, answersUsed_ = 0;
  uint32_t waiting_ = 0, inFlight_ = 0;
};

}  // namespace leap
