#include "store/frames.h"

#include <sys/mman.h>
#include <cerrno>
#include <cstring>

#define XXH_STATIC_LINKING_ONLY  // for hashing with a secret derived once instead of at every page
#include <xxhash.h>

#include "base/error.h"

// In libraries that choose by processor (Debian's does): with AVX2 a page takes a third of the time. The same value.
extern "C" __attribute__((weak)) XXH128_hash_t XXH3_128bits_withSecret_dispatch(const void* input, size_t length,
                                                                                const void* secret, size_t secretSize);

namespace leap {

static_assert(sizeof(XXH128_hash_t) == kHashWords * sizeof(int32_t));

Frames::Frames(uint32_t count, uint64_t seed) : count_(count) {
  static_assert(sizeof secret_ == XXH3_SECRET_DEFAULT_SIZE);
  void* bytes = mmap(nullptr, static_cast<size_t>(count) * kPageSize, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (bytes == MAP_FAILED) throw Error(ErrorKind::kMemory, "not enough memory for the frames", errno);
  bytes_ = static_cast<uint8_t*>(bytes);
  // A child that Node forks (and no target's) must not share these pages: a copy-on-write under a read in flight would
  // lose its bytes.
  madvise(bytes_, static_cast<size_t>(count) * kPageSize, MADV_DONTFORK);
  XXH3_generateSecret_fromSeed(secret_, seed);
  hashes_ = std::make_unique<int32_t[]>(static_cast<size_t>(count) * kHashWords);
  static const uint8_t zeros[kPageSize] = {};
  hashPage(zeros, zeroHash_);
}

Frames::~Frames() { munmap(bytes_, static_cast<size_t>(count_) * kPageSize); }

void Frames::hash(uint32_t frame, uint32_t count) {
  for (uint32_t i = frame; i < frame + count; i++) hashPage(at(i), &hashes_[static_cast<size_t>(i) * kHashWords]);
}

void Frames::hashPage(const uint8_t* page, int32_t* into) const {
  static const auto hash =
      XXH3_128bits_withSecret_dispatch ? XXH3_128bits_withSecret_dispatch : XXH3_128bits_withSecret;
  const XXH128_hash_t value = hash(page, kPageSize, secret_, sizeof secret_);
  memcpy(into, &value, sizeof value);
}

}  // namespace leap
