#include "store/swapfile.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>
#include <cerrno>

#include "base/error.h"

namespace leap {
namespace {

constexpr unsigned kDepth = 256;
// The file grows by this much at a time, so that a write is never one that also moves the end of the file (those are
// serial in most file systems).
constexpr uint64_t kGrowBytes = 64ull << 20;
constexpr int kDrainSeconds = 10;

bool onMemory(int fd) {
  struct statfs info {};
  return fstatfs(fd, &info) == 0 && (info.f_type == TMPFS_MAGIC || info.f_type == RAMFS_MAGIC);
}

// Overlay file systems take the flag, and refuse the writes where what lies below them does.
bool takesDirect(int fd, uint8_t* frame) {
  if (fcntl(fd, F_SETFL, O_DIRECT) != 0) return false;
  bool takes = pwrite(fd, frame, kPageSize, 0) == static_cast<ssize_t>(kPageSize) || errno != EINVAL;
  if (ftruncate(fd, 0) != 0 || !takes) fcntl(fd, F_SETFL, 0);
  return takes;
}

// A file that exists is taken only if it is as one freshly made by us would be: empty, plain, ours alone.
bool isFresh(int fd) {
  struct stat info {};
  return fstat(fd, &info) == 0 && S_ISREG(info.st_mode) && info.st_size == 0 && info.st_nlink == 1 &&
         info.st_uid == geteuid() && (info.st_mode & 077) == 0;
}

}  // namespace

SwapFile::SwapFile(const SwapFileOptions& options, uint8_t* frames, uint32_t frameCount)
    : options_(options), frames_(frames) {
  constexpr int kFlags = O_RDWR | O_CLOEXEC | O_NOFOLLOW;
  fd_ = open(options_.path.c_str(), kFlags | O_CREAT | O_EXCL, 0600);
  created_ = fd_ >= 0;
  if (fd_ < 0 && errno == EEXIST) {
    fd_ = open(options_.path.c_str(), kFlags);
    if (fd_ >= 0 && !isFresh(fd_)) {
      close(fd_);
      throw Error(ErrorKind::kSwap, "the swap file " + options_.path + " exists, and leapd did not create it");
    }
  }
  if (fd_ < 0) throw Error(ErrorKind::kSwap, "cannot create the swap file " + options_.path, errno);
  bool memory = onMemory(fd_);
  if (options_.direct && !memory) direct_ = takesDirect(fd_, frames);
  ringReady_ = options_.useRing && !memory && openRing();
  pool_ = std::make_unique<Operation[]>(kDepth);
  for (unsigned i = 0; i < kDepth; i++) {
    pool_[i].nextFree = free_;
    free_ = &pool_[i];
  }
  backlog_.resize(frameCount);
}

SwapFile::~SwapFile() {
  if (ringReady_) {
    io_uring_submit(&ring_);
    while (inFlight_ > 0) {  // the kernel may still write to the frames: they must not be unmapped before
      io_uring_cqe* cqe = nullptr;
      __kernel_timespec limit{kDrainSeconds, 0};
      if (io_uring_wait_cqe_timeout(&ring_, &cqe, &limit) != 0) break;
      io_uring_cqe_seen(&ring_, cqe);
      inFlight_--;
    }
    io_uring_queue_exit(&ring_);
  }
  if (fd_ >= 0) close(fd_);
}

// One thread submits and harvests, and comes by often: the kernel need not interrupt it to deliver completions. (Not
// DEFER_TASKRUN: a completion then does not end a poll of the ring.) Kernels, or seccomp filters, without that: a plain
// ring.
bool SwapFile::openRing() {
  constexpr unsigned kAttempts[] = {IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
                                    0};
  for (unsigned flags : kAttempts) {
    if (io_uring_queue_init(kDepth, &ring_, flags) != 0) continue;
    if (io_uring_register_files(&ring_, &fd_, 1) == 0) return true;
    io_uring_queue_exit(&ring_);
  }
  return false;
}

void SwapFile::undo() const {
  if (created_) unlink(options_.path.c_str());
}

bool SwapFile::request(const Request& request) {
  if (backlogUsed_ == backlog_.size()) return false;
  size_t tail = backlogHead_ + backlogUsed_;
  backlog_[tail < backlog_.size() ? tail : tail - backlog_.size()] = request;
  backlogUsed_++;
  return true;
}

// Takes the oldest request and those right behind it that go on where it ends.
void SwapFile::gather(Operation* operation) {
  operation->partCount = operation->pieceCount = operation->pages = 0;
  while (backlogUsed_ > 0) {
    const Request& next = backlog_[backlogHead_];
    if (operation->partCount == 0) {
      operation->slot = next.slot;
      operation->write = next.write;
    } else if (next.write != operation->write || next.slot != operation->slot + operation->pages ||
               operation->pages + next.count > kBatchPages) {
      break;
    }
    uint8_t* bytes = frames_ + static_cast<uint64_t>(next.frame) * kPageSize;
    iovec* last = operation->pieceCount > 0 ? &operation->pieces[operation->pieceCount - 1] : nullptr;
    if (last && static_cast<uint8_t*>(last->iov_base) + last->iov_len == bytes) {
      last->iov_len += static_cast<size_t>(next.count) * kPageSize;
    } else {
      operation->pieces[operation->pieceCount++] = {bytes, static_cast<size_t>(next.count) * kPageSize};
    }
    operation->parts[operation->partCount++] = next;
    operation->pages += next.count;
    backlogHead_ = backlogHead_ + 1 == backlog_.size() ? 0 : backlogHead_ + 1;
    backlogUsed_--;
  }
  if (operation->write) growTo((static_cast<uint64_t>(operation->slot) + operation->pages) * kPageSize);
  counters_.operations++;
}

void SwapFile::growTo(uint64_t bytes) {
  if (bytes <= sizeBytes_) return;
  uint64_t size = (bytes + kGrowBytes - 1) / kGrowBytes * kGrowBytes;
  if (ftruncate(fd_, static_cast<off_t>(size)) == 0)
    sizeBytes_ = size;  // refused (a quota, a file size limit): the write itself will say why
}

void SwapFile::flush() {
  if (!ringReady_) return;
  while (backlogUsed_ > 0 && free_) {
    Operation* operation = free_;
    if (io_uring_sq_space_left(&ring_) == 0) break;
    free_ = operation->nextFree;
    gather(operation);
    submit(operation);
    inFlight_++;
  }
  if (io_uring_sq_ready(&ring_) > 0)
    io_uring_submit(&ring_);  // what the kernel does not take now stays in the ring for the next turn
}

void SwapFile::submit(Operation* operation) {
  io_uring_sqe* sqe = io_uring_get_sqe(&ring_);
  uint64_t offset = static_cast<uint64_t>(operation->slot) * kPageSize;
  if (operation->write) {
    io_uring_prep_writev(sqe, 0, operation->pieces, operation->pieceCount, offset);
  } else {
    io_uring_prep_readv(sqe, 0, operation->pieces, operation->pieceCount, offset);
  }
  sqe->flags |= IOSQE_FIXED_FILE;
  io_uring_sqe_set_data(sqe, operation);
}

ssize_t SwapFile::carryOut(const Operation& operation) {
  off_t offset = static_cast<off_t>(operation.slot) * kPageSize;
  int pieces = static_cast<int>(operation.pieceCount);
  ssize_t done =
      operation.write ? pwritev(fd_, operation.pieces, pieces, offset) : preadv(fd_, operation.pieces, pieces, offset);
  return done < 0 ? -errno : done;
}

size_t SwapFile::harvest(size_t room, Sink& sink) {
  size_t reported = 0;
  if (!ringReady_) {
    while (backlogUsed_ > 0 && room - reported >= kBatchPages) {
      Operation* operation = free_;
      gather(operation);
      ssize_t result = carryOut(*operation);
      reported += operation->partCount;
      finish(operation, result, sink);
    }
    return reported;
  }
  while (inFlight_ > 0 && room - reported >= kBatchPages) {
    io_uring_cqe* cqe = nullptr;
    if (io_uring_peek_cqe(&ring_, &cqe) != 0) break;
    auto* operation = static_cast<Operation*>(io_uring_cqe_get_data(cqe));
    int64_t result = cqe->res;
    io_uring_cqe_seen(&ring_, cqe);
    inFlight_--;
    reported += operation->partCount;
    finish(operation, result, sink);
    operation->nextFree = free_;
    free_ = operation;
  }
  return reported;
}

// Splits what became of the operation into what became of its requests.
void SwapFile::finish(Operation* operation, int64_t result, Sink& sink) {
  int64_t covered = 0;
  for (uint32_t i = 0; i < operation->partCount; i++) {
    const Request& part = operation->parts[i];
    covered += static_cast<int64_t>(part.count) * kPageSize;
    // A write that ends early has met the end of its room, and the next one would say so.
    int error = result < 0 ? static_cast<int>(-result) : covered <= result ? 0 : part.write ? ENOSPC : EIO;
    if (error == 0) error = injected(part);
    if (error == 0) (part.write ? counters_.pagesWritten : counters_.pagesRead) += part.count;
    sink.done(part, error);
  }
}

int SwapFile::injected(const Request& part) {
  Injection& inject = options_.inject;
  if (part.write)
    return inject.failWriteAfter < 0 || inject.failWriteAfter-- > 0 ? 0 : (inject.failWriteAfter = 0, ENOSPC);
  if (inject.corruptReadAfter >= 0 && inject.corruptReadAfter-- == 0)
    frames_[static_cast<uint64_t>(part.frame) * kPageSize] ^= 1;
  return inject.failReadAfter < 0 || inject.failReadAfter-- > 0 ? 0 : (inject.failReadAfter = 0, EIO);
}

}  // namespace leap
