// What <linux/userfaultfd.h> and its neighbours of a newer kernel define and an older header lacks. Numbers are kernel
// ABI and never change.
#pragma once
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <cstdint>

#ifndef UFFD_FEATURE_WP_UNPOPULATED
#define UFFD_FEATURE_WP_UNPOPULATED (1 << 13)  // Linux 6.4
#endif
#ifndef UFFD_FEATURE_POISON
#define UFFD_FEATURE_POISON (1 << 14)  // Linux 6.6
struct uffdio_poison {
  struct uffdio_range range;
  __u64 mode;
  __s64 updated;
};
#define UFFDIO_POISON_MODE_DONTWAKE ((__u64)1 << 0)
#define UFFDIO_POISON _IOWR(UFFDIO, 0x08, struct uffdio_poison)
#endif
#ifndef UFFD_FEATURE_MOVE
#define UFFD_FEATURE_MOVE (1 << 16)  // Linux 6.8
struct uffdio_move {
  __u64 dst;
  __u64 src;
  __u64 len;
  __u64 mode;
  __s64 move;  // bytes moved, or -errno of the first page
};
#define UFFDIO_MOVE _IOWR(UFFDIO, 0x05, struct uffdio_move)
#endif
#ifndef USERFAULTFD_IOC_NEW
#define USERFAULTFD_IOC_NEW _IO(0xAA, 0x00)  // Linux 6.1
#endif
#ifndef SYS_process_madvise
#define SYS_process_madvise 440
#endif

static_assert(UFFDIO_MOVE == 0xc028aa05u && sizeof(uffdio_move) == 40, "userfaultfd ABI");
static_assert(sizeof(uffdio_poison) == 32, "userfaultfd ABI");
static_assert(sizeof(uffd_msg) == 32, "userfaultfd ABI");

namespace leap {

// Without these the pager cannot be correct: it asks for all of them and refuses a kernel that lacks one (5.11 has them
// all).
inline constexpr uint64_t kNeededFeatures = UFFD_FEATURE_EVENT_FORK | UFFD_FEATURE_EVENT_REMAP |
                                            UFFD_FEATURE_EVENT_REMOVE | UFFD_FEATURE_EVENT_UNMAP |
                                            UFFD_FEATURE_THREAD_ID | UFFD_FEATURE_PAGEFAULT_FLAG_WP;
inline constexpr uint64_t kWantedFeatures = UFFD_FEATURE_MOVE | UFFD_FEATURE_POISON;

}  // namespace leap
