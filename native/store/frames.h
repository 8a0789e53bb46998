// The frame arena: 4 KiB buffers of ours, by index, with the hash of what each holds. One mapping, so a run of frames
// is contiguous bytes.
#pragma once
#include <cstdint>
#include <memory>

#include "base/layout.h"

namespace leap {

class Frames {
 public:
  // Throws Error when there is no room. `seed` makes this run's hashes unlike any other's.
  Frames(uint32_t count, uint64_t seed);
  ~Frames();
  Frames(const Frames&) = delete;
  Frames& operator=(const Frames&) = delete;

  uint32_t count() const { return count_; }
  uint8_t* at(uint32_t frame) const { return bytes_ + static_cast<uint64_t>(frame) * kPageSize; }
  bool holds(int32_t frame, uint32_t count) const {
    return frame >= 0 && count <= count_ && static_cast<uint32_t>(frame) <= count_ - count;
  }

  // Fills the hashes of frames [frame, frame + count) from their bytes.
  void hash(uint32_t frame, uint32_t count);
  int32_t* hashes() { return hashes_.get(); }
  int32_t* zeroHash() { return zeroHash_; }

 private:
  void hashPage(const uint8_t* page, int32_t* into) const;

  uint32_t count_;
  uint8_t* bytes_;
  std::unique_ptr<int32_t[]> hashes_;
  int32_t zeroHash_[kHashWords]{};
  alignas(64) uint8_t secret_[192]{};
};

}  // namespace leap
