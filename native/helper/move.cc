// moveOut: the rounds of UFFDIO_MOVE, what their errors mean, and the reading of the arena.
#include "helper/move.h"

#include <sys/mman.h>
#include <sys/syscall.h>
#include <cerrno>
#include <initializer_list>

namespace leap {

// The destination of UFFDIO_MOVE must be registered with the descriptor that the call is made on.
void MoveBatch::pushRegister() {
  program_.pushIoctl(uffdInside_, UFFDIO_REGISTER).registration = {
      {area_.arena, Area::kArenaBytes}, UFFDIO_REGISTER_MODE_MISSING, 0};
}

void MoveBatch::pushUnregister() {
  const uffdio_range range{area_.arena, Area::kArenaBytes};
  program_.pushIoctl(uffdInside_, UFFDIO_UNREGISTER).registration.range = range;
  // UFFDIO_UNREGISTER wakes waiting threads before it takes the lock of the mapping: a thread that faults between the
  // two sleeps on without this.
  program_.pushIoctl(uffdInside_, UFFDIO_WAKE).registration.range = range;
}

// One program. The arena is registered only while the program runs. So MADV_DONTNEED, at the head of a batch, raises no
// event that somebody would have to read, and a thread of the target that reads all its memory (a garbage collector, a
// core dump) waits in the arena no longer than the program runs.
void MoveBatch::moveRound(const Batch::Pieces& pieces) {
  const bool first = arena_ == Arena::kUntouched;
  program_.clear();
  if (first) program_.push({SYS_madvise, {area_.arena, Area::kArenaBytes, MADV_DONTNEED}, 0});
  pushRegister();
  const size_t head = program_.size();
  for (const Batch::Piece& piece : pieces)
    program_.pushIoctl(uffdInside_, UFFDIO_MOVE).move = {area_.arenaPage(piece.first), piece.address, piece.bytes(), 0,
                                                         0};
  pushUnregister();
  if (!program_.run()) return;
  if (!program_.allZero()) program_.fetch();
  if (first) arena_ = program_.allZero() || program_[0].result() == 0 ? Arena::kEmptied : Arena::kNotEmptied;
  for (size_t i = 0; i < pieces.count; i++) judge(pieces[i], program_[head + i]);
}

void MoveBatch::judge(const Batch::Piece& piece, const Program::Step& step) const {
  uint32_t moved = piece.pages;
  int stopped = 0;
  if (!program_.allZero() && step.result() != 0) {
    // Moved in part: `move` has the bytes; the kernel does not report why it stopped. Not moved: `move` has the error,
    // except EAGAIN before Linux 6.15.
    moved = step.move.move > 0 ? static_cast<uint32_t>(step.move.move / kPageSize) : 0;
    stopped = static_cast<int>(step.move.move < 0 ? -step.move.move : -step.result());
    if (moved) stopped = Batch::kUndecided;
    // EINVAL is about the whole run: it lies across two mappings, of which one may be movable.
    if (stopped == EINVAL && piece.pages > 1) stopped = Batch::kUndecided;
    if (stopped == EEXIST) stopped = wasMoved(piece.address, piece.first) ? 0 : EAGAIN;
  }
  for (uint32_t page = 0; page < piece.pages; page++)
    batch_.status(piece.first + page) = page < moved ? 0 : page == moved ? stopped : Batch::kUndecided;
}

// Whether the page is in the arena and no longer at its address. Linux 6.18 can report EEXIST for a page that it has
// moved: while something else holds the page for a moment (compaction, DAMON) it tries again, and finds the destination
// filled by its first try. Taken at its word, the page would be lost. Without a move, EEXIST means that a thread has
// touched the arena after it was emptied.
bool MoveBatch::wasMoved(uint64_t address, uint32_t page) const {
  return arena_ == Arena::kEmptied && process_.presentMask(address, 1) == 0 &&
         process_.presentMask(area_.arenaPage(page), 1) != 0;
}

// First whole runs; then, where a run stopped, the rest of it page by page; then once more the pages that gave EAGAIN.
void MoveBatch::run() {
  moveRound(batch_.gather(Batch::kUndecided));
  for (const int again : {Batch::kUndecided, EAGAIN}) {
    const Batch::Pieces left = batch_.gather(again, 1);
    if (left.count && !process_.lost()) moveRound(left);
  }
  if (process_.lost()) judgeLost();
  readArena();
}

// The helper died during a program: what it did shows in the arena. If it never emptied the arena, the pages there are
// old ones.
void MoveBatch::judgeLost() {
  if (program_.wasWritten()) program_.fetch();
  if (arena_ == Arena::kUntouched) arena_ = program_[0].result() == 0 ? Arena::kEmptied : Arena::kNotEmptied;
  for (const int open : {Batch::kUndecided, EAGAIN}) {
    for (const Batch::Piece& piece : batch_.gather(open, 1))
      batch_.status(piece.first) = wasMoved(piece.address, piece.first) ? 0 : EIO;
  }
}

// Reads only pages that were moved: any other would be a fault in the arena.
void MoveBatch::readArena() const {
  const Batch::Pieces taken = batch_.gather(0);
  iovec local[kBatchPages], remote[kBatchPages];
  size_t bytes = 0;
  for (size_t i = 0; i < taken.count; bytes += taken[i].bytes(), i++) {
    local[i] = {taken[i].into, taken[i].bytes()};
    remote[i] = {reinterpret_cast<void*>(area_.arenaPage(taken[i].first)), taken[i].bytes()};
  }
  if (taken.count == 0 || process_.read(local, remote, taken.count, bytes)) return;
  for (const Batch::Piece& piece : taken) {
    // The helper has died. /proc/PID/mem reads the memory as long as the target lives; after that nobody needs it.
    if (process_.readAlways(area_.arenaPage(piece.first), piece.into, piece.bytes())) continue;
    for (uint32_t page = 0; page < piece.pages; page++) batch_.status(piece.first + page) = EIO;
  }
}

}  // namespace leap
