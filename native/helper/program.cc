// Program: the table of system calls in the target's request pages.
#include "helper/program.h"

#include <sys/syscall.h>

namespace leap {

void Program::clear() {
  size_ = 0;
  written_ = allZero_ = false;
}

Program::Step& Program::append() {
  static_assert(sizeof(Step) == arch::kStepStride, "the stride is in the code page");
  static_assert(sizeof steps_ <= Area::kVectorOffset, "the program ends before the vector of process_madvise");
  return steps_[size_++];
}

uint64_t Program::addressOf(size_t step, size_t offset) const { return area_.requests + step * sizeof(Step) + offset; }

Program::Step& Program::push(const arch::CallStep& call) {
  Step& step = append();
  step.call = call;
  step.call.result = kNotRun;
  return step;
}

Program::Step& Program::pushIoctl(int fd, uint64_t request) {
  const uint64_t pointer = addressOf(size_, offsetof(Step, move));
  return push({SYS_ioctl, {static_cast<uint64_t>(fd), request, pointer}, 0});
}

void Program::pushWrite(int fd, uint64_t word) {
  const uint64_t pointer = addressOf(size_, offsetof(Step, word));
  push({SYS_write, {static_cast<uint64_t>(fd), pointer, sizeof word}, 0}).word = word;
}

bool Program::start() {
  written_ = process_.write(area_.requests, steps_, size_ * sizeof(Step));
  if (!written_) process_.kill();
  return written_ && process_.start(area_.code, area_.requests, size_);
}

bool Program::finish() {
  arch::Registers registers;
  if (process_.wait(area_.code, &registers) != HelperProcess::Progress::kEnded) return false;
  allZero_ = arch::programAllZero(registers);
  return true;
}

bool Program::isOver() {
  arch::Registers registers;
  const HelperProcess::Progress progress = process_.poll(area_.code, &registers);
  if (progress == HelperProcess::Progress::kEnded) allZero_ = arch::programAllZero(registers);
  return progress != HelperProcess::Progress::kRuns;
}

void Program::fetch() {
  const size_t bytes = size_ * sizeof(Step);
  const iovec local{steps_, bytes}, remote{reinterpret_cast<void*>(area_.requests), bytes};
  // On failure the target has unmapped the pages: the steps keep kNotRun.
  if (!process_.read(&local, &remote, 1, bytes)) process_.readAlways(area_.requests, steps_, bytes);
}

void Program::callOff(int64_t number) const {
  static const int64_t none = kNoCall;
  iovec local[kMaxSteps], remote[kMaxSteps];
  size_t count = 0;
  for (size_t i = 0; i < size_; i++) {
    if (steps_[i].call.number != number) continue;
    local[count] = {const_cast<int64_t*>(&none), sizeof none};
    remote[count++] = {reinterpret_cast<void*>(addressOf(i, offsetof(Step, call.number))), sizeof none};
  }
  // A failure means that the target has unmapped the program, which then faults at its next step.
  if (count > 0) process_.write(local, remote, count, count * sizeof none);
}

}  // namespace leap
