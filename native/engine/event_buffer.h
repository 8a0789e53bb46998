// The event records of one turn. Room is the caller's business: `room` is looked at before anything is taken that
// cannot be given back.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>

#include "base/layout.h"

namespace leap {

class EventBuffer {
 public:
  explicit EventBuffer(size_t records) : records_(records), words_(new int32_t[records * kEventWords]) {}

  void clear() { used_ = 0; }
  bool empty() const { return used_ == 0; }
  size_t room() const { return records_ - used_; }
  size_t used() const { return used_; }
  uint32_t usedWords() const { return static_cast<uint32_t>(used_ * kEventWords); }
  int32_t* words() const { return words_.get(); }
  size_t capacityWords() const { return records_ * kEventWords; }

  void add(Event kind, int32_t a = 0, int32_t b = 0, int32_t c = 0, int32_t d = 0, int32_t e = 0, int32_t f = 0,
           int32_t g = 0) {
    int32_t* record = &words_[used_++ * kEventWords];
    record[0] = static_cast<int32_t>(kind);
    record[1] = a, record[2] = b, record[3] = c, record[4] = d, record[5] = e, record[6] = f, record[7] = g;
  }

 private:
  size_t records_, used_ = 0;
  std::unique_ptr<int32_t[]> words_;
};

inline int32_t vpnLow(uint64_t vpn) { return static_cast<int32_t>(vpn & ((1u << kVpnLowBits) - 1)); }
inline int32_t vpnHigh(uint64_t vpn) { return static_cast<int32_t>(vpn >> kVpnLowBits); }

}  // namespace leap
