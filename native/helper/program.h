// Program: a table of system calls that the helper runs in one go. Build it (clear, push...), run it, read the results.
#pragma once
#include <cstddef>
#include <cstdint>

#include "helper/area.h"
#include "helper/process.h"
#include "target/arch_x86_64.h"
#include "uffd/uffd_abi.h"

namespace leap {

class Program {
 public:
  static constexpr int64_t kNotRun = INT64_MIN;  // result of a step that was not reached

  struct Step {
    arch::CallStep call;
    union {  // what the call's argument may point to
      uffdio_move move;
      uffdio_register registration;
      uint64_t word;
    };
    int64_t result() const { return call.result; }
  };

  Program(HelperProcess& process, const Area& area) : process_(process), area_(area) {}
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;

  void clear();
  Step& push(const arch::CallStep& call);
  // An ioctl on a descriptor of the helper's. The caller fills the step's request, to which the last argument points.
  Step& pushIoctl(int fd, uint64_t request);
  // Writes one 64-bit word to a descriptor of the helper's.
  void pushWrite(int fd, uint64_t word);

  // Both return false when the helper is lost; results() then holds what the steps that were run have left.
  bool run() { return start() && finish(); }
  bool start();
  bool finish();
  // Whether the started program is over. Does not wait.
  bool isOver();

  // Fetches the steps back from the target's memory, also when the helper has died. Not needed when allZero().
  void fetch();
  bool allZero() const { return allZero_; }  // every step of a program that ended gave 0
  bool wasWritten() const { return written_; }
  const Step& operator[](size_t i) const { return steps_[i]; }
  size_t size() const { return size_; }

  // Turns the steps of call `number` that the helper has not come to into calls that do nothing (ENOSYS).
  void callOff(int64_t number) const;
  static bool wasCalledOff(const Step& step) { return step.call.number == kNoCall; }

 private:
  static constexpr size_t kMaxSteps = kBatchPages + 4;  // a step a page, and what comes before and after them
  static constexpr int64_t kNoCall = -1;

  Step& append();
  uint64_t addressOf(size_t step, size_t offset) const;

  HelperProcess& process_;
  const Area area_;
  size_t size_ = 0;
  bool written_ = false;
  bool allZero_ = false;
  Step steps_[kMaxSteps]{};
};

}  // namespace leap
