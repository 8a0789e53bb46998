// moveOut: empties the arena, moves victims into it with UFFDIO_MOVE, and reads them there.
#pragma once
#include "helper/batch.h"
#include "helper/program.h"

namespace leap {

class MoveBatch {
 public:
  MoveBatch(HelperProcess& process, Program& program, const Area& area, int uffdInside, const Batch& batch)
      : process_(process), program_(program), area_(area), uffdInside_(uffdInside), batch_(batch) {}

  // Decides the status of every page. The bytes of pages of status 0 are in leapd's memory.
  void run();

 private:
  // Whether the arena was emptied at the head of this batch: then what it holds has come with this batch.
  enum class Arena { kUntouched, kEmptied, kNotEmptied };

  void pushRegister();
  void pushUnregister();
  void moveRound(const Batch::Pieces& pieces);
  void judge(const Batch::Piece& piece, const Program::Step& step) const;
  bool wasMoved(uint64_t address, uint32_t page) const;
  void judgeLost();
  void readArena() const;

  HelperProcess& process_;
  Program& program_;
  const Area& area_;
  const int uffdInside_;
  const Batch& batch_;
  Arena arena_ = Arena::kUntouched;
};

}  // namespace leap
