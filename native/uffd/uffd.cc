#include "uffd/uffd.h"

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <cerrno>

#include "base/layout.h"
#include "uffd/uffd_abi.h"

namespace leap::uffd {
namespace {

// Where the probe asks: programs are not linked this low, and were a page here, to unprotect it once more changes
// nothing. (Below mmap_min_addr the kernel answers EINVAL before it looks whether the address space lives.)
constexpr uint64_t kProbeAddress = 1ull << 20;

// The three filling ioctls report alike: `result` is the bytes done, or minus the errno when nothing was.
int partial(int returned, int64_t result, uint64_t length, uint64_t* done) {
  if (returned == 0) {
    *done = length;
    return 0;
  }
  int reason = errno;
  if (result <= 0) {
    *done = 0;
    return reason;
  }
  *done = static_cast<uint64_t>(result);
  return EAGAIN;
}

// A short answer does not say why it stopped: one more call, from the page that stopped, does. At most one, since it
// moves nothing forward unless the reason has gone, and then the caller simply asks for less.
template <typename Once>
int untilReason(uint64_t length, uint64_t* done, Once once) {
  int error = once(0, done);
  if (error != EAGAIN || *done == 0 || *done >= length) return error;
  uint64_t more = 0;
  error = once(*done, &more);
  *done += more;
  return *done >= length ? 0 : error;
}

}  // namespace

int registerRange(int fd, uint64_t start, uint64_t length) {
  uffdio_register request{};
  request.range = {start, length};
  request.mode = UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_WP;
  return ioctl(fd, UFFDIO_REGISTER, &request) == 0 ? 0 : errno;
}

int unregisterRange(int fd, uint64_t start, uint64_t length) {
  uffdio_range range{start, length};
  int error = ioctl(fd, UFFDIO_UNREGISTER, &range) == 0 ? 0 : errno;
  wake(fd, start, length);
  return error;
}

int copy(int fd, uint64_t to, const uint8_t* from, uint64_t length, uint64_t* done) {
  return untilReason(length, done, [&](uint64_t at, uint64_t* finished) {
    uffdio_copy request{};
    request.dst = to + at;
    request.src = reinterpret_cast<uint64_t>(from) + at;
    request.len = length - at;
    int returned = ioctl(fd, UFFDIO_COPY, &request);
    return partial(returned, request.copy, request.len, finished);
  });
}

int zero(int fd, uint64_t to, uint64_t length, uint64_t* done) {
  return untilReason(length, done, [&](uint64_t at, uint64_t* finished) {
    uffdio_zeropage request{};
    request.range = {to + at, length - at};
    int returned = ioctl(fd, UFFDIO_ZEROPAGE, &request);
    return partial(returned, request.zeropage, request.range.len, finished);
  });
}

int poison(int fd, uint64_t to, uint64_t length, uint64_t* done) {
  return untilReason(length, done, [&](uint64_t at, uint64_t* finished) {
    uffdio_poison request{};
    request.range = {to + at, length - at};
    int returned = ioctl(fd, UFFDIO_POISON, &request);
    return partial(returned, request.updated, request.range.len, finished);
  });
}

int wake(int fd, uint64_t start, uint64_t length) {
  uffdio_range range{start, length};
  return ioctl(fd, UFFDIO_WAKE, &range) == 0 ? 0 : errno;
}

int protect(int fd, uint64_t start, uint64_t length) {
  uffdio_writeprotect request{};
  request.range = {start, length};
  request.mode = UFFDIO_WRITEPROTECT_MODE_WP;
  return ioctl(fd, UFFDIO_WRITEPROTECT, &request) == 0 ? 0 : errno;
}

int unprotect(int fd, uint64_t start, uint64_t length) {
  uffdio_writeprotect request{};
  request.range = {start, length};
  return ioctl(fd, UFFDIO_WRITEPROTECT, &request) == 0 ? 0 : errno;
}

int probe(int fd) {
  uffdio_writeprotect request{};
  request.range = {kProbeAddress, kPageSize};
  request.mode = UFFDIO_WRITEPROTECT_MODE_DONTWAKE;
  return ioctl(fd, UFFDIO_WRITEPROTECT, &request) != 0 && errno == ESRCH ? ESRCH : 0;
}

int open(uint64_t wanted, uint64_t* features) {
  int fd = static_cast<int>(syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK));
  if (fd < 0) return -1;
  uffdio_api api{};
  api.api = UFFD_API;
  api.features = wanted;
  if (ioctl(fd, UFFDIO_API, &api) != 0) {
    int error = errno;
    close(fd);
    errno = error;
    return -1;
  }
  if (features) *features = api.features;
  return fd;
}

}  // namespace leap::uffd
