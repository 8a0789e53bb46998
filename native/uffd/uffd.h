// userfaultfd's ioctls, one function each. All return an errno (0 when done) and none retries: what an errno means is
// the pager's business.
#pragma once
#include <cstddef>
#include <cstdint>

namespace leap::uffd {

// Missing and write-protect faults of [start, start + length). EBUSY: another userfaultfd watches it.
int registerRange(int fd, uint64_t start, uint64_t length);
// Lets go of the range and wakes whoever waits for one of its pages, also where the mapping itself is gone already.
int unregisterRange(int fd, uint64_t start, uint64_t length);

// These may stop part of the way: `done` counts the bytes finished from the front, the errno is that of the page that
// stopped.
int copy(int fd, uint64_t to, const uint8_t* from, uint64_t length, uint64_t* done);
int zero(int fd, uint64_t to, uint64_t length, uint64_t* done);
int poison(int fd, uint64_t to, uint64_t length, uint64_t* done);

int wake(int fd, uint64_t start, uint64_t length);
int protect(int fd, uint64_t start, uint64_t length);
int unprotect(int fd, uint64_t start, uint64_t length);

// 0 while the address space behind the descriptor lives, ESRCH when it is gone.
int probe(int fd);

// A descriptor for our own process (calibration, doctor), closed on exec, nonblocking. -1 and errno when refused.
// `features`, when not null, receives every feature the kernel offers.
int open(uint64_t wanted, uint64_t* features);

}  // namespace leap::uffd
