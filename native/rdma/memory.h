// A chunk: a run of anonymous memory that is lent out over RDMA. Huge pages where the machine has any reserved, else
// the kernel is asked for transparent ones. Not in core dumps, and not copied to children: what is pinned for a device
// must stay where it is.
#pragma once
#include <cstddef>
#include <cstdint>

namespace leap {

class Memory {
 public:
  Memory(size_t bytes, bool huge);  // throws Error; only reserves
  ~Memory();
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;

  uint8_t* base() const { return base_; }
  size_t bytes() const { return bytes_; }
  bool isHuge() const { return huge_; }

  // All of it present, and zeros. Takes about 0.2 s a GiB; any thread. Returns an errno: ENOMEM when the machine has
  // not so much.
  int scrub();

 private:
  uint8_t* map_ = nullptr;
  size_t mapBytes_ = 0;
  uint8_t* base_ = nullptr;
  size_t bytes_;
  bool huge_ = false;
  bool present_ = false;
};

}  // namespace leap
