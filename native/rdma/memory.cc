#include "rdma/memory.h"

#include <sys/mman.h>
#include <cerrno>
#include <cstring>
#include <string>

#include "base/error.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23  // Linux 5.14
#endif

namespace leap {

namespace {
constexpr size_t kHugePage = size_t{2} << 20;
}

Memory::Memory(size_t bytes, bool huge) : bytes_(bytes) {
  if (bytes == 0 || bytes % 4096 != 0) throw Error(ErrorKind::kBadArgument, "memory comes in whole pages");
  constexpr int protection = PROT_READ | PROT_WRITE, flags = MAP_PRIVATE | MAP_ANONYMOUS;
  if (huge && bytes % kHugePage == 0) {
    void* map = mmap(nullptr, bytes, protection, flags | MAP_HUGETLB, -1, 0);
    if (map != MAP_FAILED) {
      map_ = base_ = static_cast<uint8_t*>(map);
      mapBytes_ = bytes;
      huge_ = true;
    }
  }
  if (!map_) {
    mapBytes_ = bytes + kHugePage;  // to begin where a huge page can
    void* map = mmap(nullptr, mapBytes_, protection, flags | MAP_NORESERVE, -1, 0);
    if (map == MAP_FAILED)
      throw Error(ErrorKind::kMemory, "cannot reserve " + std::to_string(bytes >> 20) + " MiB of memory", errno);
    map_ = static_cast<uint8_t*>(map);
    base_ = reinterpret_cast<uint8_t*>((reinterpret_cast<uintptr_t>(map) + kHugePage - 1) & ~(kHugePage - 1));
    if (huge) madvise(base_, bytes_, MADV_HUGEPAGE);
  }
  madvise(base_, bytes_, MADV_DONTDUMP);
  madvise(base_, bytes_, MADV_DONTFORK);
}

Memory::~Memory() { munmap(map_, mapBytes_); }

int Memory::scrub() {
  if (!present_) {
    // Fresh pages are zeros.
    if (madvise(base_, bytes_, MADV_POPULATE_WRITE) == 0) return present_ = true, 0;
    if (errno != EINVAL) return errno;
  }
  memset(base_, 0, bytes_);
  present_ = true;
  return 0;
}

}  // namespace leap
