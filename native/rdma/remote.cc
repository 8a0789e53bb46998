#include "rdma/remote.h"

#include <algorithm>
#include <cerrno>
#include <cmath>

#include "base/error.h"

namespace leap {

void LatencyHistogram::record(int64_t ns) {
  uint64_t value = ns < static_cast<int64_t>(kSteps) ? kSteps : static_cast<uint64_t>(ns);
  uint32_t power = 63 - static_cast<uint32_t>(__builtin_clzll(value));
  uint32_t step = static_cast<uint32_t>(value >> (power - 2)) & (kSteps - 1);
  buckets_[power * kSteps + step]++;
  count_++;
}

double LatencyHistogram::quantile(double q) const {
  if (count_ == 0) return 0;
  auto wanted = static_cast<uint64_t>(std::ceil(q * static_cast<double>(count_)));
  uint64_t seen = 0;
  for (uint32_t bucket = 0; bucket < kBuckets; bucket++) {
    seen += buckets_[bucket];
    if (seen >= wanted)
      return std::ldexp(1.0 + (bucket % kSteps + 1) / static_cast<double>(kSteps), static_cast<int>(bucket / kSteps));
  }
  return 0;
}

// Two requests a frame: a page is written to both replicas of its chunk at once.
Remote::Remote(Fabric& fabric, Frames& frames)
    : fabric_(fabric), frames_(frames), operations_(size_t{2} * frames.count()), answers_(size_t{2} * frames.count()) {
  for (uint32_t i = static_cast<uint32_t>(operations_.size()); i-- > 0;) {
    operations_[i].next = free_;
    free_ = i;
  }
}

void Remote::setChunk(uint32_t slots) {
  if (sized_ || slots == 0 || (slots & (slots - 1)) != 0)
    throw Error(ErrorKind::kBadArgument, "a chunk is a power of two of slots, and the same for all");
  chunkShift_ = 31 - static_cast<uint32_t>(__builtin_clz(slots));
  sized_ = true;
}

bool Remote::map(uint32_t replica, uint32_t chunk, uint32_t connection, uint32_t rkey, uint64_t address) {
  if (!sized_ || replica >= kReplicas || chunk >= kMostChunks || connection == 0) return false;
  std::vector<Mapping>& mappings = mappings_[replica];
  if (chunk >= mappings.size()) mappings.resize(chunk + 1);
  mappings[chunk] = {connection, rkey, address, mappings[chunk].generation + 1};
  return true;
}

void Remote::unmap(uint32_t replica, uint32_t chunk) {
  if (replica >= kReplicas || chunk >= mappings_[replica].size()) return;
  Mapping& mapping = mappings_[replica][chunk];
  mapping.connection = 0;
  mapping.generation++;
}

Remote::Mapping* Remote::mapping(uint32_t replica, uint32_t slot) {
  uint32_t chunk = slot >> chunkShift_;
  return sized_ && replica < kReplicas && chunk < mappings_[replica].size() ? &mappings_[replica][chunk] : nullptr;
}

Remote::Line& Remote::lineOf(uint32_t connection) {
  for (auto& line : lines_) {
    if (line->connection == connection) return *line;
  }
  lines_.push_back(std::make_unique<Line>());
  lines_.back()->connection = connection;
  return *lines_.back();
}

const Remote::Traffic* Remote::traffic(uint32_t connection) const {
  for (const auto& line : lines_) {
    if (line->connection == connection) return &line->traffic;
  }
  return nullptr;
}

bool Remote::request(const Request& request) {
  Mapping* mapping = this->mapping(request.replica, request.slot);
  if (free_ == kNone || !mapping || request.slot >> chunkShift_ != (request.slot + request.count - 1) >> chunkShift_)
    return false;
  uint32_t index = free_;
  Operation& operation = operations_[index];
  free_ = operation.next;
  operation = {request, mapping->generation, mapping->connection, 0, 0, kNone};
  if (mapping->connection == 0) {
    answer(index, ECANCELED);
    return true;
  }
  Line& line = lineOf(mapping->connection);
  if (line.last == kNone) {
    line.first = index;
  } else {
    operations_[line.last].next = index;
  }
  line.last = index;
  waiting_++;
  return true;
}

void Remote::answer(uint32_t operation, int error) {
  operations_[operation].error = error;
  answers_[(answersHead_ + answersUsed_) % answers_.size()] = operation;  // room for every operation there is
  answersUsed_++;
}

void Remote::flush(int64_t nowNs) {
  if (waiting_ == 0) return;
  for (auto& line : lines_) {
    while (line->first != kNone) {
      uint32_t index = line->first;
      Operation& operation = operations_[index];
      const Request& request = operation.request;
      const Mapping& mapping = *this->mapping(request.replica, request.slot);
      if (mapping.generation != operation.generation) {
        answer(index, ECANCELED);
      } else {
        uint64_t offset = static_cast<uint64_t>(request.slot & ((1u << chunkShift_) - 1)) * kPageSize;
        operation.begunNs = nowNs;
        bool posted = fabric_.post(operation.connection, request.write, index, frames_.at(request.frame),
                                   request.count * kPageSize, mapping.address + offset, mapping.rkey);
        if (!posted) {
          if (fabric_.isConnected(operation.connection)) break;  // every context is in flight: after a completion
          answer(index, EIO);
        } else {
          inFlight_++;
        }
      }
      line->first = operation.next;
      if (line->first == kNone) line->last = kNone;
      waiting_--;
    }
  }
  fabric_.ring();
}

void Remote::completed(uint32_t token, int error) {
  inFlight_--;
  answer(token, error);
}

void Remote::harvest(size_t room, int64_t nowNs, Sink& sink) {
  fabric_.poll(this);
  flush(nowNs);
  for (; answersUsed_ > 0 && room > 0; room--) {
    uint32_t index = answers_[answersHead_];
    answersHead_ = (answersHead_ + 1) % answers_.size();
    answersUsed_--;
    Operation& operation = operations_[index];
    const Request request = operation.request;
    const Mapping& mapping = *this->mapping(request.replica, request.slot);
    int error = mapping.generation != operation.generation ? ECANCELED : operation.error;
    if (error == 0) {
      Traffic& traffic = lineOf(operation.connection).traffic;
      (request.write ? traffic.writes : traffic.reads) += request.count;
      if (!request.write) traffic.readLatency.record(nowNs - operation.begunNs);
    }
    operation.next = free_;
    free_ = index;
    sink.done(request, error);
  }
}

}  // namespace leap
